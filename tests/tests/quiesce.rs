//! Calls before and after the reading of a mount, and changes in the mount meanwhile.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ctxsync_tests::machine::{Machine, World};
use ctxsync_tests::tree::Tree;
use tokio::time::Instant;
use transfer_engine::{Error, Quiesce};

type Done<'a> = Pin<Box<dyn Future<Output = io::Result<()>> + Send + 'a>>;

/// Acts on the mount before and after it is read, and counts how often.
#[derive(Debug)]
struct Round {
    before: fn(&Tree),
    after: fn(&Tree),
    calls: [AtomicUsize; 2],
}

impl Round {
    fn about(machine: &mut Machine, before: fn(&Tree), after: fn(&Tree)) -> Arc<Self> {
        let round = Arc::new(Self { before, after, calls: Default::default() });
        machine.options.quiesce = Some(Arc::<Self>::clone(&round));
        round
    }

    fn calls(&self) -> [usize; 2] {
        self.calls.each_ref().map(|calls| calls.load(Ordering::SeqCst))
    }
}

impl Quiesce for Round {
    fn quiesce<'a>(&'a self, mount: &'a Path, _: Option<Instant>) -> Done<'a> {
        self.calls[0].fetch_add(1, Ordering::SeqCst);
        (self.before)(&Tree(mount.to_owned()));
        Box::pin(async { Ok(()) })
    }

    fn resume<'a>(&'a self, mount: &'a Path, _: Option<Instant>) -> Done<'a> {
        self.calls[1].fetch_add(1, Ordering::SeqCst);
        (self.after)(&Tree(mount.to_owned()));
        Box::pin(async { Ok(()) })
    }
}

#[tokio::test]
async fn what_is_saved_is_what_was_there_in_between() {
    let world = World::memory().await;
    let (mut a, b) = (world.machine("a"), world.machine("b"));
    a.mount.write("database", "live").write("other", "o");
    let round = Round::about(
        &mut a,
        |mount| drop(mount.write("dump", "still").at("")),
        |mount| drop(mount.remove("dump").write("database", "goes on").at("")),
    );
    a.push().await.clean();
    b.pull().await.clean();
    assert_eq!((b.mount.read("dump").as_str(), b.mount.read("database").as_str()), ("still", "live"));
    assert_eq!(round.calls(), [1, 1]);
    // `resume` is called even if the reading fails.
    a.options.max_upload = Some(1);
    a.push().await.error();
    assert_eq!(round.calls(), [2, 2]);
    a.options.dry_run = true;
    a.push().await;
    assert_eq!(round.calls(), [2, 2]);
}

#[tokio::test]
async fn l31_a_root_that_is_exchanged_while_it_is_read_is_read_anew() {
    let world = World::memory().await;
    let (mut a, b) = (world.machine("a"), world.machine("b"));
    a.mount.write("f", "old").write("gone", "g");
    a.push().await.clean();
    // Like `mv work old; mv new work; rm -r old`, of which the open directory only sees the deletion.
    let round = Round::about(
        &mut a,
        |mount| {
            let (old, new) = (mount.0.with_extension("old"), mount.0.with_extension("new"));
            if !old.exists() {
                std::fs::create_dir(&new).unwrap();
                std::fs::write(new.join("f"), "new").unwrap();
                std::fs::rename(&mount.0, &old).unwrap();
                std::fs::rename(&new, &mount.0).unwrap();
                std::fs::remove_file(old.join("f")).unwrap();
            }
        },
        |_| (),
    );
    a.push().await.clean();
    assert_eq!(round.calls(), [2, 2]);
    b.pull().await.clean();
    assert_eq!(b.mount.read("f"), "new");
    // A root that changes each time is not read for ever.
    let round = Round::about(
        &mut a,
        |mount| {
            let aside = tempfile::tempdir_in(mount.0.parent().unwrap()).unwrap();
            std::fs::rename(&mount.0, aside.path().join("old")).unwrap();
            std::fs::create_dir(&mount.0).unwrap();
        },
        |_| (),
    );
    let ended = a.push().await;
    assert!(matches!(ended.error(), Error::Exchanged { .. }), "{ended:?}");
    assert_eq!(round.calls(), [3, 3]);
}
