//! What can be written on the command line.

use clap::{Args, Parser, Subcommand};
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Event-time windows over LLM feedback events: count, sum, average, min, max, percentiles and standard deviation per key.
#[derive(Debug, Parser)]
#[command(name = "processor", version, disable_help_flag = true, args_conflicts_with_subcommands = true)]
#[command(after_help = "EXIT CODES\n  0   done\n  1   failed at run time\n  2   configuration or usage\n  \
    75  stopped because a peer or a dependency failed: start again\n  78  fenced or refused: do not restart without a person\n\n\
    EXAMPLES\n  processor --config config/processor-dev.yaml\n  processor validate --config processor.yaml\n  \
    processor generate --count 100000 --seed 7 --output events.jsonl\n\n\
    Any key of the configuration can be set by the environment: PROCESSOR_ and the path in capitals, levels joined by __,\n\
    as in PROCESSOR_KAFKA__CONSUMER__BOOTSTRAP_SERVERS=kafka:9092.")]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub run: RunOptions,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help, global = true)]
    help: Option<bool>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a job; the same as giving no command
    #[command(disable_help_flag = true)]
    Run(RunOptions),
    /// Check a configuration and print it as it takes effect, with each value's origin
    #[command(disable_help_flag = true)]
    Validate(ConfigOption),
    /// Write generated feedback events to a file, standard output or a Kafka topic
    #[command(disable_help_flag = true)]
    Generate(GenerateOptions),
}

#[derive(Debug, Args)]
pub struct ConfigOption {
    /// The configuration, a YAML file
    #[arg(long, short = 'c', value_name = "FILE")]
    pub config: PathBuf,
}

#[derive(Debug, Args)]
pub struct RunOptions {
    /// The configuration, a YAML file
    #[arg(long, short = 'c', value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Worker threads of each process [default: parallelism of the configuration]
    #[arg(long, short = 'w', value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Processes of the job
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1)]
    pub processes: usize,
    /// This process's index, from 0
    #[arg(long, short = 'p', value_name = "INDEX", default_value_t = 0)]
    pub process: usize,
    /// One host:port a line, in the order of the processes [default: localhost, ports from 2101]
    #[arg(long, short = 'h', value_name = "FILE")]
    pub hostfile: Option<PathBuf>,
    /// Log one JSON object a line
    #[arg(long)]
    pub log_json: bool,
    /// What to log, as in `info,frontier=debug` [default: logging.filter of the configuration]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
}

#[derive(Debug, Args)]
pub struct GenerateOptions {
    /// How many events; without it, until it is stopped
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// Events a second, timed by the wall clock; without it, as fast as it goes, at times that begin at a fixed instant
    #[arg(long, value_name = "N")]
    pub rate: Option<f64>,
    /// The same seed makes the same events
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub seed: u64,
    /// Distinct keys (model and region)
    #[arg(long, value_name = "N", default_value = "48")]
    pub keys: std::num::NonZeroU32,
    /// How far events are out of order: seconds, or text such as 500ms
    #[arg(long, value_name = "TIME", default_value = "2")]
    pub disorder: String,
    /// Share of events that come later than the disorder explains, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub late: f64,
    /// Share of records that are malformed, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub malformed: f64,
    /// Partitions the events are spread over
    #[arg(long, value_name = "N", default_value = "1")]
    pub partitions: std::num::NonZeroU32,
    /// Write to this file (plain, or packed for .gz and .zst); - is standard output
    #[arg(long, short = 'o', value_name = "FILE", default_value = "-", conflicts_with = "topic")]
    pub output: PathBuf,
    /// Write to this Kafka topic
    #[arg(long, value_name = "TOPIC")]
    pub topic: Option<String>,
    /// Kafka's brokers, for --topic
    #[arg(long, value_name = "HOST:PORT,...", default_value = "localhost:9092")]
    pub bootstrap_servers: String,
    /// A librdkafka setting for --topic, such as security.protocol=ssl; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub property: Vec<String>,
}
