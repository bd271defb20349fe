//! The exponents of growth.

/// Returns the exponent between each two neighbours of points `(x, y)`, which are sorted by `x`: 0 if `y`
/// stays the same, 1 if it grows like `x`, `None` if one of the values is zero.
pub(crate) fn exponents(points: &[(f64, f64)]) -> Vec<Option<f64>> {
    points
        .windows(2)
        .map(|pair| match pair {
            [(_, a), (_, b)] if a == b => Some(0.0),
            [(_, a), (_, b)] if *a <= 0.0 || *b <= 0.0 => None,
            [(x, a), (z, b)] => Some((b / a).ln() / (z / x).ln()),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_is_found_again() {
        for power in [-1.0, 0.0, 0.5, 1.0, 2.0] {
            let points: Vec<(f64, f64)> =
                [2e3, 2e4, 2e5, 1e6].iter().map(|x: &f64| (*x, 7.0 * x.powf(power))).collect();
            let found = exponents(&points);
            assert_eq!(found.len(), 3);
            assert!(found.iter().all(|e| (e.unwrap() - power).abs() < 1e-9), "{power}: {found:?}");
        }
    }

    #[test]
    fn nothing_has_no_power() {
        assert_eq!(
            exponents(&[(1.0, 0.0), (10.0, 0.0), (100.0, 5.0), (1000.0, 0.0)]),
            [Some(0.0), None, None]
        );
        assert_eq!(exponents(&[(1.0, 1.0)]), []);
        assert_eq!(exponents(&[]), []);
    }
}
