//! Machines that lose their state, are replaced, or are cloned.

use std::path::{Path, PathBuf};

use ctxsync_tests::machine::Machine;

use crate::copy::Copy;
use crate::run::Run;

impl Run {
    pub(crate) fn lose_state(&mut self, who: usize) -> String {
        self.forget_extracted(who);
        let machine = &self.players[who].machine;
        if machine.state.exists() {
            machine.lose_state();
        }
        "loses its state".to_owned()
    }

    /// A new machine takes the place of this one, which is lost with everything that it had not pushed.
    pub(crate) async fn replace(&mut self, who: usize) -> String {
        self.give_up_unsaved(&self.contents_of(who)).await;
        self.players[who].machine.mount.clear();
        self.lose_state(who);
        let durable = Copy::of(&self.mount(who));
        // What the lost machine had written is nothing that this one could lose.
        let player = &mut self.players[who];
        (player.durable, player.since, player.taken) = (durable, None, None);
        "is replaced".to_owned()
    }

    /// The next machine is replaced by a clone of this one: the same mount, the same state.
    pub(crate) async fn clone_to_next(&mut self, who: usize) -> String {
        let next = (who + 1) % self.players.len();
        self.replace(next).await;
        let (from, to) = (&self.players[who].machine, &self.players[next].machine);
        Copy::of(&from.mount.0).restore(&to.mount.0);
        // The state is found by the path of the mount, which a clone on another machine would keep.
        let states = |machine: &Machine| {
            let files = walkdir::WalkDir::new(&machine.state).into_iter().flatten();
            let files = files.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path);
            let kept = files.filter(|path| path.file_name().is_some_and(|name| name != "lock"));
            kept.collect::<Vec<_>>()
        };
        let copied = states(from);
        // Makes the directories.
        drop(to.open().unwrap());
        let depth = |path: &Path, state: &Path| path.strip_prefix(state).unwrap().components().count();
        let dirs = walkdir::WalkDir::new(&to.state).into_iter().flatten();
        let mut dirs: Vec<PathBuf> =
            dirs.filter(|entry| entry.file_type().is_dir()).map(walkdir::DirEntry::into_path).collect();
        dirs.retain(|dir| depth(dir, &to.state) == 3);
        if let Some(place) = dirs.first() {
            for file in copied.iter().filter(|file| depth(file, &from.state) >= 4) {
                let below: PathBuf = file.strip_prefix(&from.state).unwrap().components().skip(3).collect();
                std::fs::create_dir_all(place.join(&below).parent().unwrap()).unwrap();
                std::fs::copy(file, place.join(below)).unwrap();
            }
        }
        // The memory of the machine was copied too.
        self.players[next].boots = self.players[who].boots;
        self.players[next].ahead = self.players[who].ahead;
        self.players[next].machine.env = self.players[who].machine.env.clone();
        self.players[next].durable = Copy::of(&self.mount(next));
        self.clock.observe(&self.mount(next));
        format!("m{next} is a clone of it")
    }
}
