//! A mount in which another program works while it is pushed.
//!
//! The engine asks its clock before each file that it reads and after each directory that it lists. At these
//! moments the other program acts.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use policy_core::Timestamp;
use transfer_engine::{Clock, Env};

use crate::machine::{Ended, Machine};

/// The real clock, which calls `act` each time it is asked.
struct Busy<F> {
    /// How often it was asked. The scan asks from several threads, and the other program has only one.
    asked: Mutex<usize>,
    act: F,
}

impl<F: Fn(usize) + Send + Sync> Clock for Busy<F> {
    fn now(&self) -> Timestamp {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        (self.act)(*asked);
        *asked += 1;
        drop(asked);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Timestamp { secs: now.as_secs().cast_signed(), nanos: now.subsec_nanos() }
    }
}

/// Pushes, and calls `act` with 0, 1, 2 and so on meanwhile.
pub async fn push_while(machine: &Machine, act: impl Fn(usize) + Send + Sync + 'static) -> Ended {
    let mut machine = machine.clone();
    machine.env = Env::real().with_clock(Arc::new(Busy { asked: Mutex::new(0), act }));
    machine.push().await
}
