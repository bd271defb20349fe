//! Collections, and deletions of the context.

use std::sync::Arc;
use std::time::Duration;

use policy_core::Retention;
use storage_backends::layer::{Fault, Operation, Rule};
use transfer_engine::{CollectOptions, Error, Silent, Store};

use crate::coverage::met;
use crate::disk::until_gone;
use crate::run::{Run, env_of};
use crate::schedule::{GRACE, How, Step};

impl Run {
    pub(crate) async fn collect(&mut self, step: &Step, last: Option<u64>) -> String {
        let disk = self.disk(step, step.who, None);
        let wire = self.wire(step, step.who, &disk);
        let store = Store::new(Arc::new(wire), "test:", env_of(&self.clock, &self.random, &disk));
        let retention = Retention { last: last.and_then(std::num::NonZeroU64::new), ..Retention::default() };
        let options = CollectOptions { retention: retention.into(), ..CollectOptions::default() };
        let Some(collected) = until_gone(&disk, store.collect(&options, &Silent)).await else {
            return "the collector dies".to_owned();
        };
        match collected {
            Ok(report) => {
                met("collection");
                if report.files_recycled > 0 {
                    met("recycled: by a collection");
                }
                format!("collects: {} forgotten, {} packs deleted", report.forgotten, report.packs_deleted)
            }
            Err(e) => {
                let is_ahead = matches!(e, Error::ClockSkew { .. }) && self.players[step.who].ahead > 0;
                assert!(step.is_troubled() || is_ahead, "a collection fails: {e:?}");
                format!("does not collect: {e}")
            }
        }
    }

    pub(crate) async fn delete(&mut self) -> String {
        let there = self.in_context().await;
        match self.world.store().delete_context(&self.name().await).await {
            Ok(()) => {
                self.branches.tagged.get_mut().clear();
                self.history.get_mut().end();
                self.ledger.get_mut().given_up.extend(there);
                "the context is deleted".to_owned()
            }
            Err(Error::NoContext { .. }) => "there is no context".to_owned(),
            Err(e) => panic!("the context can't be deleted: {e:?}"),
        }
    }

    /// A machine sleeps in the middle of a push, while the context is deleted, and collected until nothing is left of
    /// it. What the push then says to have saved must be there.
    pub(crate) async fn oversleep(&mut self, step: &Step) -> String {
        let there = self.in_context().await;
        self.ledger.get_mut().given_up.extend(there);
        let long = Duration::from_secs(8 * GRACE);
        let is_commit = |key: &object_store::path::Path| key.as_ref().starts_with("contexts");
        self.network.add(Rule::new(Fault::Delay(long)).on(Operation::Put).with_key(is_commit).nth(1));
        let disk = self.disk(step, step.who, None);
        let (store, name) = (self.world.store(), self.name().await);
        self.branches.tagged.get_mut().clear();
        let meanwhile = async {
            tokio::time::sleep(Duration::from_secs(600)).await;
            // There may be none.
            let _ = store.delete_context(&name).await;
            self.history.borrow_mut().end();
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_secs(GRACE + 600)).await;
                self.clock.catch_up();
                store.collect(&CollectOptions::default(), &Silent).await.unwrap();
            }
        };
        let (ended, ()) = tokio::join!(self.perform(step, step.who, How::Push, &disk), meanwhile);
        let has_saved = ended.as_ref().is_some_and(|ended| {
            ended.result.as_ref().is_ok_and(|report| report.parent.is_some() && !report.is_incomplete())
        });
        let said = self.told(step, step.who, ended, &disk).await;
        let here = self.contents_of(step.who);
        let there = self.in_context().await;
        let lost: Vec<_> = here.difference(&there).filter(|content| !self.was_recycled(content)).collect();
        assert!(!has_saved || lost.is_empty(), "{said}\nit is said to be saved and is not: {lost:?}");
        format!("sleeps in the middle of a push, while the context is deleted and collected: {said}")
    }
}
