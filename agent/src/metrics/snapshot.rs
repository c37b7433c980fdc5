//! All values of one moment.

use super::table::Metric;
use crate::clock::Timestamp;

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) metric: Metric,
    /// What it is of, where the metric has a dimension beside the host.
    pub(super) of: Option<String>,
    pub(super) value: f64,
}

/// All values of one moment.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Snapshot {
    pub(super) at: Timestamp,
    pub(super) samples: Vec<Sample>,
}

impl Snapshot {
    pub(super) fn new(at: Timestamp) -> Self {
        Self { at, samples: Vec::new() }
    }

    /// A value of the host.
    pub(super) fn host(&mut self, metric: Metric, value: f64) {
        self.samples.push(Sample { metric, of: None, value });
    }

    /// A value of a program or of a source.
    pub(super) fn of(&mut self, metric: Metric, of: &str, value: f64) {
        self.samples.push(Sample { metric, of: Some(of.to_owned()), value });
    }
}

/// A count as CloudWatch and Prometheus take it: exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "both sides keep doubles and nothing else")]
pub(super) fn count(n: u64) -> f64 {
    n as f64
}
