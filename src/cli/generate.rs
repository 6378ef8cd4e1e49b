//! `processor generate`.

use super::arguments::GenerateOptions;
use super::signals;
use crate::config::{GeneratorConfig, LoggingConfig, parse_duration};
use crate::error::{ExitCode, ProcessorError, ProcessorResult};
use crate::metrics::init_logging;
use crate::runtime::Control;
use crate::sink::TopicWriter;
use crate::source::generator::{generate as generate_events, generate_to_writer};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// Writes generated events until the count is reached or the end is asked for.
pub fn generate(options: &GenerateOptions) -> ProcessorResult<ExitCode> {
    let config = generator(options)?;
    init_logging(&LoggingConfig { filter: "warn".into(), json: false })?;
    let control = Control::new();
    signals::stop_on_signals(&control)?;
    let written = match &options.topic {
        Some(topic) => to_topic(options, topic, &config, &control)?,
        None if options.output == Path::new("-") => {
            generate_to_writer(&config, &control, "standard output", &mut std::io::stdout().lock())?
        }
        None => to_file(&options.output, &config, &control)?,
    };
    if let Some(failure) = control.take_failure() {
        return Err(failure);
    }
    super::say(format_args!("{written} events"));
    Ok(ExitCode::Done)
}

fn generator(options: &GenerateOptions) -> ProcessorResult<GeneratorConfig> {
    let usage = |message: String| ProcessorError::Config(message);
    let disorder = parse_duration(&options.disorder)
        .map_err(|problem| usage(format!("--disorder `{}`: {problem}", options.disorder)))?;
    if options.rate.is_some_and(|rate| !rate.is_finite() || rate <= 0.0) {
        return Err(usage("--rate: a number of events a second, greater than 0".into()));
    }
    for (name, share) in [("--late", options.late), ("--malformed", options.malformed)] {
        if !(0.0..=1.0).contains(&share) {
            return Err(usage(format!("{name} {share}: a share is between 0 and 1")));
        }
    }
    Ok(GeneratorConfig {
        rate: options.rate,
        count: options.count,
        keys: options.keys,
        seed: options.seed,
        disorder,
        late_share: options.late,
        malformed_share: options.malformed,
        partitions: options.partitions,
    })
}

fn to_file(path: &Path, config: &GeneratorConfig, control: &Control) -> ProcessorResult<u64> {
    let failed = |error| ProcessorError::io(format!("cannot write {}", path.display()), error);
    let mut file = BufWriter::new(File::create(path).map_err(failed)?);
    let name = path.display().to_string();
    let written = match path.extension().and_then(|extension| extension.to_str()) {
        Some("gz") => {
            let mut packer = flate2::write::GzEncoder::new(&mut file, flate2::Compression::default());
            let written = generate_to_writer(config, control, &name, &mut packer)?;
            packer.finish().map_err(failed)?;
            written
        }
        Some("zst") => {
            let mut packer = zstd::Encoder::new(&mut file, 0).map_err(failed)?;
            let written = generate_to_writer(config, control, &name, &mut packer)?;
            packer.finish().map_err(failed)?;
            written
        }
        _ => generate_to_writer(config, control, &name, &mut file)?,
    };
    file.flush().map_err(failed)?;
    Ok(written)
}

fn to_topic(
    options: &GenerateOptions,
    topic: &str,
    config: &GeneratorConfig,
    control: &Control,
) -> ProcessorResult<u64> {
    let mut writer = TopicWriter::new(&options.bootstrap_servers, topic, properties(&options.property)?)?;
    let written = generate_events(config, control, &mut |partition, payload| writer.write(partition, payload))?;
    writer.finish()?;
    Ok(written)
}

fn properties(pairs: &[String]) -> ProcessorResult<Vec<(String, String)>> {
    let pair = |text: &String| {
        let (key, value) = text.split_once('=').ok_or_else(|| {
            ProcessorError::Config(format!("--property `{text}`: KEY=VALUE, such as security.protocol=ssl"))
        })?;
        Ok((key.to_owned(), value.to_owned()))
    };
    pairs.iter().map(pair).collect()
}
