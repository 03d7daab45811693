//! stub
use crate::commit::Time;
pub fn now() -> Time { Time(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64) }
pub fn format(t: Time) -> String { t.0.to_string() }
