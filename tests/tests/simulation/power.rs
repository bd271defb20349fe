//! A loss of power takes what was not flushed.

use std::collections::BTreeSet;
use std::path::Path;

use ctxsync_tests::random::Random;
use transfer_engine::BootId;

use crate::copy::Copy;
use crate::coverage::met;
use crate::run::Run;

impl Run {
    /// What was not flushed may be lost: the mount is as it was at some moment since its last flush, and a file that was
    /// written since then may be there in part.
    pub(crate) async fn lose_power(&mut self, who: usize, random: &mut Random) -> String {
        let (before, mount) = (self.contents_of(who), self.mount(who));
        let whole = Copy::of(&mount);
        if self.players[who].machine.options.flush_behind {
            // Some of its state is lost.
            self.forget_extracted(who);
        }
        self.players[who].extracting.lose_power();
        let player = &mut self.players[who];
        let mut torn = 0;
        // Then the kernel has written everything just before.
        let is_written = player.durable.has_lost_extraction(&mount);
        if player.machine.options.flush_behind {
            match (random.below(3), &player.since) {
                _ if is_written => {}
                (0, _) => player.durable.restore(&mount),
                (1, Some(since)) => since.restore(&mount),
                _ => {}
            }
            torn = player.durable.tear(&mount, random);
            tear_state(&player.machine.state, random);
        } else if !is_written {
            player.durable.restore(&mount);
        }
        player.boots += 1;
        player.machine.env = player.machine.env.clone().with_boot(Some(BootId([player.boots; 16])));
        self.clock.observe(&mount);
        let after = self.contents_of(who);
        let lost: BTreeSet<String> = before.difference(&after).cloned().collect();
        let player = &mut self.players[who];
        if std::mem::take(&mut player.is_unflushed) && !player.machine.options.flush_behind {
            self.ledger.get_mut().given_up.extend(lost);
        } else {
            self.give_up_unsaved(&lost).await;
        }
        // A part of a file is nobody's.
        self.ledger.get_mut().given_up.extend(after.difference(&before).cloned());
        let player = &mut self.players[who];
        player.durable = Copy::of(&mount);
        player.since = None;
        if player.machine.options.flush_behind {
            let whole = player.taken.take().map_or(whole, |(first, _)| first);
            player.taken = Some((whole, player.durable.clone()));
        }
        if !is_written {
            met("file: loss of power while nothing runs");
        }
        if torn > 0 {
            self.has_torn = true;
            met("file: torn by a loss of power");
        }
        format!("loses power, {torn} files are torn")
    }

    /// Gives up what a loss of power took from a mount if a user has written something else in its place. A sync can't tell
    /// that from a change of what was there (012).
    pub(crate) fn note_written_over(&mut self, who: usize) {
        if let Some((whole, left)) = &self.players[who].taken {
            let lost = whole.written_over(left, &self.mount(who));
            self.ledger.get_mut().given_up.extend(lost);
        }
    }
}

/// What of the state was not flushed may be lost, or be there in part.
fn tear_state(state: &Path, random: &mut Random) {
    let is_flushed = |path: &Path| {
        let name = path.file_name().unwrap_or_default();
        ["base", "base.next", "unflushed", "lock"].iter().any(|flushed| name == *flushed)
    };
    let files = walkdir::WalkDir::new(state).sort_by_file_name().into_iter().flatten();
    let files = files.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path);
    for path in files.filter(|path| !is_flushed(path)) {
        match random.below(4) {
            0 => std::fs::remove_file(&path).unwrap(),
            1 => {
                let file = std::fs::File::options().write(true).open(&path).unwrap();
                file.set_len(random.below(file.metadata().unwrap().len() as usize + 1) as u64).unwrap();
            }
            2 => {
                let len = path.metadata().unwrap().len() as usize;
                std::fs::write(&path, vec![0; len]).unwrap();
            }
            _ => {}
        }
    }
}
