//! The generator without a job: events for a file, standard output, or whatever the caller does with them.

use super::stream::EventStream;
use crate::config::model::GeneratorConfig;
use crate::error::{ProcessorError, ProcessorResult};
use crate::runtime::Control;
use crate::time::EventTime;
use std::io::{ErrorKind, Write};
use std::time::{Duration, Instant};

/// Hands every event's partition and payload to `take`, in the order in which they are sent: at the configured rate, or as fast
/// as `take` takes them. Ends after the configured count, when `control` is stopped, or with the first error of `take`.
/// Returns how many events it was.
pub fn generate(
    config: &GeneratorConfig,
    control: &Control,
    take: &mut dyn FnMut(i32, &[u8]) -> ProcessorResult<()>,
) -> ProcessorResult<u64> {
    let (start, since) = (EventTime::now(), Instant::now());
    let mut streams: Vec<EventStream> =
        (0..config.partitions.get()).map(|partition| EventStream::new(config, partition, start)).collect();
    let mut count = 0;
    while !control.is_stopping() {
        let next = streams.iter().enumerate().filter_map(|(index, stream)| Some((stream.due()?, index))).min();
        let Some((due, index)) = next else { break };
        if config.rate.is_some() {
            let wait = Duration::from(due.since(start)).saturating_sub(since.elapsed());
            if !wait.is_zero() && control.sleep(wait) {
                break;
            }
        }
        if let Some(payload) = streams[index].next_payload() {
            take(index as i32, payload)?;
            count += 1;
        }
    }
    Ok(count)
}

/// Writes events as JSON lines, see [`generate`]. `name` is what an error calls the output. A reader that goes away (as `head`
/// does) is the end, not an error. With a rate, every line is written out at once.
pub fn generate_to_writer(
    config: &GeneratorConfig,
    control: &Control,
    name: &str,
    output: &mut dyn Write,
) -> ProcessorResult<u64> {
    let mut output = std::io::BufWriter::with_capacity(256 << 10, output);
    let mut reader_gone = false;
    let mut written = 0;
    let generated = generate(config, control, &mut |_, payload| {
        let done = output.write_all(payload).and_then(|()| output.write_all(b"\n"));
        let done = done.and_then(|()| if config.rate.is_some() { output.flush() } else { Ok(()) });
        written += u64::from(done.is_ok());
        done.map_err(|error| {
            reader_gone = error.kind() == ErrorKind::BrokenPipe;
            ProcessorError::io(format!("cannot write events to {name}"), error)
        })
    });
    let flushed = output.flush();
    match (generated, flushed) {
        (Ok(_), Ok(())) => Ok(written),
        (Err(_), _) if reader_gone => Ok(written),
        (Err(error), _) => Err(error),
        (Ok(_), Err(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(written),
        (Ok(_), Err(error)) => Err(ProcessorError::io(format!("cannot write events to {name}"), error)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::stream::tests::config;
    use super::*;
    use std::num::NonZeroU32;

    #[test]
    fn lines_of_all_partitions_in_the_order_of_sending() {
        let config = GeneratorConfig { count: Some(1001), partitions: NonZeroU32::new(4).unwrap(), ..config() };
        let (mut first, mut second) = (Vec::new(), Vec::new());
        assert_eq!(generate_to_writer(&config, &Control::new(), "x", &mut first).unwrap(), 1001);
        generate_to_writer(&config, &Control::new(), "x", &mut second).unwrap();
        assert!(first == second);
        let lines: Vec<&[u8]> = first.split(|byte| *byte == b'\n').collect();
        assert_eq!(lines.len(), 1002);
        assert!(lines[..1001].iter().all(|line| serde_json::from_slice::<serde_json::Value>(line).is_ok()));
        let mut partitions = Vec::new();
        generate(&config, &Control::new(), &mut |partition, _| {
            partitions.push(partition);
            Ok(())
        })
        .unwrap();
        assert_eq!(partitions[..8], [0, 1, 2, 3, 0, 1, 2, 3]);
    }

    #[test]
    fn a_rate_is_kept() {
        let config = GeneratorConfig { count: Some(20), rate: Some(200.0), ..config() };
        let begin = Instant::now();
        assert_eq!(generate_to_writer(&config, &Control::new(), "x", &mut Vec::new()).unwrap(), 20);
        assert!(begin.elapsed() >= Duration::from_millis(95), "{:?}", begin.elapsed());
    }

    #[test]
    fn a_stopped_run_and_a_reader_that_went_away_are_the_end() {
        struct Failing(ErrorKind);
        impl Write for Failing {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let endless = GeneratorConfig { count: None, ..config() };
        assert!(generate_to_writer(&endless, &Control::new(), "x", &mut Failing(ErrorKind::BrokenPipe)).is_ok());
        let error = generate_to_writer(&endless, &Control::new(), "out.jsonl", &mut Failing(ErrorKind::StorageFull));
        assert!(error.unwrap_err().to_string().starts_with("cannot write events to out.jsonl: "));
        let control = Control::new();
        control.stop();
        assert_eq!(generate_to_writer(&endless, &control, "x", &mut Vec::new()).unwrap(), 0);
    }
}
