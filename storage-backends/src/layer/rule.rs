//! Which requests have a fault.

use std::fmt;
use std::sync::Arc;

use object_store::path::Path;

use super::{Fault, Operation};

type KeyPredicate = Arc<dyn Fn(&Path) -> bool + Send + Sync>;

/// Which requests have a fault: by kind, by key, and by their number among those that match.
///
/// ```
/// use storage_backends::layer::{Fault, Operation, Rule};
///
/// // The second put of a pack lands, and its reply is lost.
/// let rule = Rule::new(Fault::FailAfter).on(Operation::Put).below("packs").nth(2);
/// ```
#[derive(Clone)]
pub struct Rule {
    fault: Fault,
    operation: Option<Operation>,
    key: Option<KeyPredicate>,
    first: u64,
    times: u64,
    chance: f64,
    seen: u64,
}

impl Rule {
    /// Makes a rule for every request.
    pub fn new(fault: Fault) -> Self {
        Self { fault, operation: None, key: None, first: 1, times: u64::MAX, chance: 1.0, seen: 0 }
    }

    /// Restricts the rule to requests of one kind.
    #[must_use]
    pub fn on(mut self, operation: Operation) -> Self {
        self.operation = Some(operation);
        self
    }

    /// Restricts the rule to keys for which `fits` is true; a listing's key is its prefix.
    #[must_use]
    pub fn with_key(mut self, fits: impl Fn(&Path) -> bool + Send + Sync + 'static) -> Self {
        self.key = Some(Arc::new(fits));
        self
    }

    /// Restricts the rule to the key `prefix` and keys below it, by whole components.
    #[must_use]
    pub fn below(self, prefix: &str) -> Self {
        let prefix = Path::from(prefix);
        self.with_key(move |key| key.prefix_matches(&prefix))
    }

    /// Restricts the rule to the request with this number, from 1, among those that match otherwise.
    #[must_use]
    pub fn nth(mut self, number: u64) -> Self {
        self.first = number;
        self.times = 1;
        self
    }

    /// Restricts the rule to this many requests, the first that match otherwise.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    /// Lets the rule apply to a matching request with this probability, from 0 to 1, as the layer's seed
    /// decides.
    #[must_use]
    pub fn chance(mut self, chance: f64) -> Self {
        self.chance = chance;
        self
    }

    /// Whether the fault applies to this request; counts the request if it matches. `random` is only called
    /// if the rule has a probability.
    pub(super) fn befalls(
        &mut self,
        operation: Operation,
        key: &Path,
        random: impl FnOnce() -> f64,
    ) -> Option<Fault> {
        let fits = self.operation.is_none_or(|wanted| wanted == operation)
            && self.key.as_ref().is_none_or(|fits| fits(key));
        if !fits {
            return None;
        }
        self.seen += 1;
        let due = self.seen >= self.first && self.seen - self.first < self.times;
        (due && (self.chance >= 1.0 || random() < self.chance)).then_some(self.fault)
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rule")
            .field("fault", &self.fault)
            .field("operation", &self.operation)
            .field("first", &self.first)
            .field("times", &self.times)
            .field("chance", &self.chance)
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}
