//! A push needs few open files (faults P8). The only test in its process, because it lowers the process's
//! limit.

use ctxsync_tests::machine::World;
use ctxsync_tests::random::Random;

#[tokio::test]
async fn p8_a_wide_tree_needs_few_handles() {
    let world = World::memory().await;
    let a = world.machine("a");
    // The first files take long to push, so that the scan gets far ahead.
    let mut random = Random::new(3);
    for i in 0..10 {
        a.mount.write(format!("0-begin/{i}"), random.bytes(4 << 20));
    }
    for i in 0..700 {
        a.mount.write(format!("packages/p{i}/lib/index"), format!("{i}"));
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let lower = rustix::process::Rlimit { current: Some(256), maximum: limit.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, lower).unwrap();
    let ended = a.push().await;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    ended.clean();
}
