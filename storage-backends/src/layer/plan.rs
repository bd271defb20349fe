//! Chooses a fault for each request, and remembers the choices.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, Result};
use tokio::time::sleep;

use super::fault::{Fault, InjectedFault};
use super::spoil::cut_short;
use super::{Operation, Rule, lazily};

/// An injected fault.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Injection {
    /// The kind of request.
    pub operation: Operation,
    /// The object, or the prefix of a listing.
    pub key: Path,
    /// What went wrong.
    pub fault: Fault,
}

pub(super) struct State {
    pub(super) rules: Vec<Rule>,
    random: u64,
    pub(super) crashed: bool,
    pub(super) injections: Vec<Injection>,
    /// The keys put through this layer, oldest first.
    put: Vec<Path>,
}

#[derive(Clone)]
pub(super) struct Plan(Arc<Mutex<State>>);

/// What a request does about the fault chosen for it.
pub(super) struct Doom {
    pub(super) fault: Option<Fault>,
    pub(super) error: InjectedFault,
}

impl Doom {
    /// Returns the error of a request that must not take effect.
    pub(super) fn before(&self) -> Result<()> {
        let error = self.error.clone();
        match self.fault {
            None | Some(Fault::FailAfter | Fault::Unflushed | Fault::CrashAfter | Fault::Delay(_)) => Ok(()),
            Some(Fault::Denied) => Err(error.denied()),
            Some(Fault::Expired) => Err(error.expired()),
            Some(_) => Err(error.generic()),
        }
    }

    /// Replaces the result of a request that took effect. Even a refusal is replaced: its answer is lost.
    pub(super) fn after<T>(&self, result: Result<T>) -> Result<T> {
        match self.fault {
            Some(Fault::FailAfter | Fault::CrashAfter) => Err(self.error.clone().generic()),
            Some(Fault::Unflushed) => Err(self.error.clone().unflushed()),
            _ => result,
        }
    }
}

impl Plan {
    pub(super) fn new(seed: u64) -> Self {
        let state = State {
            rules: Vec::new(),
            random: seed,
            crashed: false,
            injections: Vec::new(),
            put: Vec::new(),
        };
        Self(Arc::new(Mutex::new(state)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Chooses a fault, and waits if the fault is a delay.
    pub(super) async fn choose(&self, operation: Operation, key: &Path) -> Result<Doom> {
        let doom = self.decide(operation, key)?;
        if let Some(Fault::Delay(time) | Fault::NoAnswer(time)) = doom.fault {
            sleep(time).await;
        }
        Ok(doom)
    }

    fn decide(&self, operation: Operation, key: &Path) -> Result<Doom> {
        let error = InjectedFault { operation, key: key.clone() };
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.crashed {
            return Err(error.generic());
        }
        let State { rules, random, .. } = state;
        let fault = rules.iter_mut().find_map(|rule| rule.befalls(operation, key, || unit(random)));
        if let Some(fault) = fault {
            state.crashed = matches!(fault, Fault::CrashBefore | Fault::CrashAfter);
            state.injections.push(Injection { operation, key: key.clone(), fault });
        }
        Ok(Doom { fault, error })
    }

    pub(super) fn was_put(&self, key: &Path) {
        let mut state = self.lock();
        state.put.retain(|other| other != key);
        state.put.push(key.clone());
    }

    pub(super) fn newest(&self, count: usize) -> Vec<Path> {
        self.lock().put.iter().rev().take(count).cloned().collect()
    }

    pub(super) fn listing(
        &self,
        prefix: Option<&Path>,
        inner: impl FnOnce() -> BoxStream<'static, Result<ObjectMeta>> + Send + 'static,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let (plan, prefix) = (self.clone(), prefix.cloned().unwrap_or_default());
        lazily(async move {
            let doom = match plan.choose(Operation::List, &prefix).await {
                Ok(doom) => doom,
                Err(error) => return stream::iter([Err(error)]).boxed(),
            };
            let one = |item: ObjectMeta, _: u64| (1, Some(item));
            match doom.fault {
                Some(Fault::StaleList(count)) => {
                    let hidden = plan.newest(count);
                    inner()
                        .try_filter(move |meta| futures::future::ready(!hidden.contains(&meta.location)))
                        .boxed()
                }
                Some(Fault::Truncate(keep)) => cut_short(inner(), keep, one, None),
                Some(Fault::Break(keep)) => cut_short(inner(), keep, one, Some(doom.error)),
                None | Some(Fault::Delay(_)) => inner(),
                // A listing has no effect, so failing before and after it are the same.
                Some(_) => {
                    stream::iter(doom.before().and_then(|()| doom.after(Ok(()))).err().map(Err)).boxed()
                }
            }
        })
    }
}

/// Returns the next number in [0, 1), by SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number
/// generators, 2014).
fn unit(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}
