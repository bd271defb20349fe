//! A plot: one line for each operation, both axes logarithmic.

use std::error::Error;
use std::path::Path;

use plotters::chart::ChartBuilder;
use plotters::coord::Shift;
use plotters::coord::combinators::IntoLogRange;
use plotters::element::{Circle, PathElement, Text};
use plotters::prelude::{DrawingArea, IntoDrawingArea, SVGBackend};
use plotters::series::LineSeries;
use plotters::style::{Color, IntoFont, RGBColor, ShapeStyle, TextStyle};

use super::point::{Unit, grouped};

/// The content of a plot.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plot {
    pub(crate) title: String,
    pub(crate) x: String,
    pub(crate) unit: Unit,
    pub(crate) lines: Vec<Line>,
}

/// One line: its points in the order of `x`, all above 0.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line {
    pub(crate) name: String,
    /// The index of its colour; lines with the same name have the same colour in all plots.
    pub(crate) colour: usize,
    pub(crate) points: Vec<(f64, f64)>,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn Error>>;

const SIZE: (u32, u32) = (800, 420);
const LEGEND: u32 = 225;
/// Text and axes: visible on a white and on a black background.
const INK: RGBColor = RGBColor(128, 128, 128);
/// Visible on both as well, and distinguishable with colour blindness.
const COLOURS: [RGBColor; 10] = [
    RGBColor(31, 119, 214),
    RGBColor(230, 126, 0),
    RGBColor(0, 158, 115),
    RGBColor(214, 75, 75),
    RGBColor(153, 112, 220),
    RGBColor(161, 120, 80),
    RGBColor(219, 98, 176),
    RGBColor(24, 165, 190),
    RGBColor(150, 150, 20),
    RGBColor(110, 120, 140),
];

impl Plot {
    /// Writes the plot as SVG with a transparent background, or nothing if there is nothing to draw.
    pub(crate) fn write(&self, path: &Path) -> crate::Result<bool> {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let Some(x) = range(points().map(|p| p.0)) else { return Ok(false) };
        let Some(y) = range(points().map(|p| p.1)) else { return Ok(false) };
        let root = SVGBackend::new(path, SIZE).into_drawing_area();
        let (left, right) = root.split_horizontally(SIZE.0 - LEGEND);
        self.chart(&left, x, y)?;
        self.legend(&right)?;
        root.present()?;
        Ok(true)
    }

    fn chart(&self, area: &Area<'_>, x: (f64, f64), y: (f64, f64)) -> Drawn {
        let title = ("sans-serif", 20).into_font().color(&INK);
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, title)
            .margin(10)
            .x_label_area_size(44)
            .y_label_area_size(78)
            .build_cartesian_2d((x.0..x.1).log_scale(), (y.0..y.1).log_scale())?;
        chart
            .configure_mesh()
            .axis_style(INK)
            .bold_line_style(INK.mix(0.35))
            .light_line_style(INK.mix(0.12))
            .label_style(small())
            .axis_desc_style(small())
            .x_desc(&self.x)
            .x_label_formatter(&|x| grouped(x.round() as u64))
            .y_label_formatter(&|y| self.unit.show(*y))
            .draw()?;
        // Linear growth is parallel to this line.
        let steps = (y.1 / y.0).min(x.1 / x.0);
        chart.draw_series(LineSeries::new([(x.0, y.0), (x.0 * steps, y.0 * steps)], INK.mix(0.6)))?;
        for line in &self.lines {
            let style = ShapeStyle::from(colour(line)).stroke_width(2);
            chart.draw_series(LineSeries::new(line.points.iter().copied(), style))?;
            chart.draw_series(line.points.iter().map(|p| Circle::new(*p, 3, colour(line).filled())))?;
        }
        Ok(())
    }

    fn legend(&self, area: &Area<'_>) -> Drawn {
        let style = |i: usize| {
            self.lines.get(i).map_or(INK.mix(0.6).into(), |l| ShapeStyle::from(colour(l)).stroke_width(2))
        };
        let names = self.lines.iter().map(|line| line.name.as_str()).chain(["linear"]);
        for (i, name) in names.enumerate() {
            let y = 48 + 22 * i as i32;
            area.draw(&PathElement::new([(4, y), (24, y)], style(i)))?;
            area.draw(&Text::new(name.to_owned(), (30, y - 7), small()))?;
        }
        Ok(())
    }
}

fn colour(line: &Line) -> RGBColor {
    COLOURS[line.colour % COLOURS.len()]
}

fn small() -> TextStyle<'static> {
    ("sans-serif", 15).into_font().color(&INK)
}

/// Returns the whole decades around the values, at least one; `None` without values.
fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let (least, most) =
        values.fold((f64::INFINITY, 0f64), |(least, most), value| (least.min(value), most.max(value)));
    let (from, to) = (least.log10().floor(), most.log10().ceil());
    (least > 0.0 && least <= most).then(|| (10f64.powf(from), 10f64.powf(to.max(from + 1.0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(points: Vec<(f64, f64)>) -> Plot {
        let lines = vec![Line { name: "first push".to_owned(), colour: 0, points }];
        Plot { title: "wall time".to_owned(), x: "files".to_owned(), unit: Unit::Seconds, lines }
    }

    #[test]
    fn axes_hold_whole_decades() {
        assert_eq!(range([2000.0, 1e6].into_iter()), Some((1e3, 1e6)));
        assert_eq!(range([10.0].into_iter()), Some((10.0, 100.0)));
        assert_eq!(range([].into_iter()), None);
        assert_eq!(range([0.0, 5.0].into_iter()), None);
    }

    #[test]
    fn a_figure_names_its_lines_and_units() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wall.svg");
        assert!(plot(vec![(2000.0, 0.05), (20_000.0, 0.4)]).write(&path).unwrap());
        let svg = std::fs::read_to_string(&path).unwrap();
        for word in ["wall time", "files", "first push", "linear", "10,000", "100 ms", "1 s"] {
            assert!(svg.contains(word), "{word}");
        }
    }

    #[test]
    fn nothing_gives_no_figure() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wall.svg");
        assert!(!plot(Vec::new()).write(&path).unwrap());
        assert!(!path.exists());
    }
}
