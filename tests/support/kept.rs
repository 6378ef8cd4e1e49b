//! A sink for tests that look at results.

use llm_optimizer_processor::{AggregationResult, EventSink, ProcessorResult, async_trait};
use std::sync::{Arc, Mutex};

/// A sink that keeps what it is sent.
#[derive(Clone, Default)]
pub struct Kept(pub Arc<Mutex<Vec<AggregationResult>>>);

#[async_trait]
impl EventSink<AggregationResult> for Kept {
    async fn send(&self, result: AggregationResult) -> ProcessorResult<()> {
        self.0.lock().unwrap().push(result);
        Ok(())
    }
}
