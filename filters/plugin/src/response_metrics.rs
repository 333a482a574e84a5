//! What is measured when a request has ended: its response and its duration.

use meridian_metrics::{DURATION, RESPONSE_CODE_CLASSES, RESPONSES};
use meridian_policy::{Direction, Metrics, Vantage};

use crate::host::{PluginHost, Refused, Stat, StreamHost};

const NANOSECONDS_PER_MILLISECOND: i64 = 1_000_000;

/// The metrics of ended requests, as far as the policy asks for them.
pub(crate) struct ResponseMetrics {
    /// By direction and class.
    responses: Vec<Stat>,
    /// By direction.
    durations: Vec<Stat>,
}

impl ResponseMetrics {
    /// Defines what the policy asks for.
    pub(crate) fn define<H: PluginHost>(
        host: H,
        metrics: Metrics,
        vantage: Vantage,
    ) -> Result<Self, Refused> {
        let mut defined = Self {
            responses: Vec::new(),
            durations: Vec::new(),
        };
        for direction in Direction::ALL {
            let [vantage, direction] = [vantage.as_str(), direction.as_str()];
            if metrics.responses {
                for class in RESPONSE_CODE_CLASSES {
                    let name = RESPONSES.stat_name(&[vantage, direction, class]);
                    defined.responses.push(host.define(RESPONSES.kind, &name)?);
                }
            }
            if metrics.durations {
                let name = DURATION.stat_name(&[vantage, direction]);
                defined.durations.push(host.define(DURATION.kind, &name)?);
            }
        }
        Ok(defined)
    }

    /// Measures a request that has ended.
    pub(crate) fn observe<H: StreamHost>(
        &self,
        host: H,
        direction: Direction,
    ) -> Result<(), Refused> {
        let direction = direction.index();
        if !self.responses.is_empty() {
            let code = host.number("response\0code").unwrap_or_default();
            // Of a request that got no response Envoy tells the code 0.
            let class = usize::try_from(code / 100).unwrap_or_default();
            let classes = RESPONSE_CODE_CLASSES.len();
            let class = if class < classes { class } else { 0 };
            if let Some(counter) = self.responses.get(direction * classes + class) {
                host.increment(*counter)?;
            }
        }
        if let Some(histogram) = self.durations.get(direction) {
            let duration = host.number("request\0duration").unwrap_or_default();
            let milliseconds = duration / NANOSECONDS_PER_MILLISECOND;
            host.observe(*histogram, milliseconds.try_into().unwrap_or_default())?;
        }
        Ok(())
    }
}
