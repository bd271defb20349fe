//! A mount in which another program works while it is pushed.
//!
//! The engine asks its clock before each file that it reads and after each directory that it lists. At these
//! moments the other program acts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use policy_core::Timestamp;
use transfer_engine::{Clock, Env};

use crate::machine::{Ended, Machine};

/// The real clock, which calls `act` each time it is asked.
struct Busy<F> {
    asked: AtomicUsize,
    act: F,
}

impl<F: Fn(usize) + Send + Sync> Clock for Busy<F> {
    fn now(&self) -> Timestamp {
        (self.act)(self.asked.fetch_add(1, Ordering::SeqCst));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Timestamp { secs: now.as_secs().cast_signed(), nanos: now.subsec_nanos() }
    }
}

/// Pushes, and calls `act` with 0, 1, 2 and so on meanwhile.
pub async fn push_while(machine: &Machine, act: impl Fn(usize) + Send + Sync + 'static) -> Ended {
    let mut machine = machine.clone();
    machine.env = Env::real().with_clock(Arc::new(Busy { asked: AtomicUsize::new(0), act }));
    machine.push().await
}
