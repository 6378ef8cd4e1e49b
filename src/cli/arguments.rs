//! What can be written on the command line.

use crate::checkpoint::{StartFrom, StartOptions};
use crate::config::LoggingConfig;
use crate::error::{ProcessorError, ProcessorResult};
use crate::time::Epoch;
use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// What no configuration is answered with.
pub const FIRST_STEPS: &str = "\
no configuration is given. To begin with:
  processor --config config/processor-dev.yaml    live events from the built-in generator, a table of results
  processor validate --config FILE                check a configuration and see what is in effect
  processor generate --count 1000                 events to try things out with
  processor --help                                everything else";

const AFTER_HELP: &str = "\
EXIT CODES
  0   done
  1   failed at run time
  2   configuration or usage; nothing was opened
  75  stopped because a peer or a dependency failed: start again
  78  fenced or refused: do not restart without a person

EXAMPLES
  processor --config config/processor-dev.yaml
  processor launch -n 2 --config config/processor.yaml
  processor validate --config config/processor.yaml
  processor generate --count 100000 --seed 7 --output events.jsonl
  processor late-report --config config/processor.yaml
  processor checkpoints list --config config/processor.yaml

Every key of the configuration can be set by the environment: PROCESSOR_ and the path in capitals, levels
joined by __, as in PROCESSOR_KAFKA__CONSUMER__BOOTSTRAP_SERVERS=kafka:9092.";

const AFTER_RUN_HELP: &str = "\
Results go to standard output or where the configuration says, the log and the summary to standard error.
SIGTERM or Ctrl-C ends the run in order: what was read is finished and written. A second one ends it at once.

EXAMPLES
  processor run --config processor.yaml
  processor run --config processor.yaml --log info,frontier=debug
  processor run --config processor.yaml --from-checkpoint 17           go back to an earlier checkpoint
  processor run --config processor.yaml --ignore-checkpoint --yes      begin anew
  processor run --config processor.yaml -w 4 -n 2 -p 0 -h hosts.txt    the first of two processes of 4 workers";

const AFTER_LAUNCH_HELP: &str = "\
Each address of the hostfile that is this machine's gets a process; other machines have a launch of their own. When
a process fails, all of this machine's are started again together, from the newest checkpoint, after 1, 2, 4 ... 30
seconds. What would fail again (exit codes 2 and 78) is given up. Lines of the log begin with the process's index.
Pages are on metrics.listen for the first process, and a port higher for each further one.

EXAMPLES
  processor launch -n 4 --config processor.yaml                        four processes, all of them here
  processor launch -n 4 --hostfile hosts.txt --config processor.yaml   those of them that are this machine's";

const AFTER_VALIDATE_HELP: &str = "\
Each value is followed by its origin: default, FILE:LINE or the variable of the environment. Secrets are shown
as ***. Everything that is wrong is told at once, a line each, and the exit code is 2. Nothing is opened but the
file.

EXAMPLE
  PROCESSOR_PARALLELISM=8 processor validate --config config/processor.yaml";

const AFTER_GENERATE_HELP: &str = "\
EXAMPLES
  processor generate --count 100000 --seed 7 --output events.jsonl.zst
  processor generate --rate 500 --keys 12 --disorder 2s | processor --config processor.yaml
  processor generate --count 1000000 --topic feedback-events --bootstrap-servers localhost:9092";

const AFTER_LATE_REPORT_HELP: &str = "\
Per partition and for all: how many events would have been late with which watermark.max_out_of_orderness, and which
one would have been enough for 99%, 99.9%, 99.99% and all of them. It counts from the start of the run.

EXAMPLES
  processor late-report --config processor.yaml
  processor late-report --url http://localhost:8080 --bound 3s --bound 45s
  processor late-report --url host-1:8080 --url host-2:8080 --json     the processes of one job together";

const AFTER_VIEWS_HELP: &str = "\
Without a name it lists the views; with one it shows the rows, those of the newest windows first. A view is kept by one
process of the job: give the pages of all of them.

EXAMPLES
  processor views --config processor.yaml
  processor views slowest --config processor.yaml --watch
  processor views --url host-1:8080 --url host-2:8080 --json";

const AFTER_CHECKPOINTS_HELP: &str = "\
These read what is on disk, whether a processor is running or not, and change nothing.

EXAMPLES
  processor checkpoints list --config processor.yaml
  processor checkpoints inspect 42 --path checkpoints/processor --key claude-3-opus
  processor checkpoints verify --config processor.yaml
  processor checkpoints diff 41 42 --config processor.yaml";

const AFTER_CHECKPOINTS_LIST_HELP: &str = "\
A checkpoint is ok when it is published and its files are there, as long as they were; their contents are what
`verify` reads. What is incomplete does not count. Files that checkpoints share are counted in each of them.

EXAMPLE
  processor checkpoints list --config processor.yaml";

const AFTER_CHECKPOINTS_INSPECT_HELP: &str = "\
EXAMPLES
  processor checkpoints inspect 42 --config processor.yaml
  processor checkpoints inspect 42 --config processor.yaml --key us-west-2 --limit 5
  processor checkpoints inspect 42 --path checkpoints/processor --json | jq .windows";

const AFTER_CHECKPOINTS_VERIFY_HELP: &str = "\
Reads every byte: the checksums of all files, every record and every accumulator. The exit code is 1 where
something is wrong, and each file that is at fault is named.

EXAMPLES
  processor checkpoints verify --config processor.yaml        all that are published
  processor checkpoints verify 42 --path checkpoints/processor";

const AFTER_CHECKPOINTS_DIFF_HELP: &str = "\
Windows that are new are marked +, those that are gone -, those that have changed ~ with both contents.

EXAMPLE
  processor checkpoints diff 41 42 --config processor.yaml --limit 20";

/// Event-time windows over LLM feedback events: count, sum, average, min, max, percentiles and standard deviation per key.
#[derive(Debug, Parser)]
#[command(name = "processor", version, disable_help_flag = true, args_conflicts_with_subcommands = true)]
#[command(after_help = AFTER_HELP)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub run: RunOptions,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help, global = true, display_order = 1000)]
    help: Option<bool>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a job; the same as giving no command
    #[command(disable_help_flag = true, after_help = AFTER_RUN_HELP)]
    Run(RunOptions),
    /// Run the processes of a job that are this machine's, and start them again together when one fails
    #[command(disable_help_flag = true, after_help = AFTER_LAUNCH_HELP)]
    Launch(LaunchOptions),
    /// Check a configuration and print it as it takes effect, with each value's origin
    #[command(disable_help_flag = true, after_help = AFTER_VALIDATE_HELP)]
    Validate(ConfigOption),
    /// Write generated feedback events to a file, standard output or a Kafka topic
    #[command(disable_help_flag = true, after_help = AFTER_GENERATE_HELP)]
    Generate(GenerateOptions),
    /// Ask a running processor how late its events are, and which max_out_of_orderness would do
    #[command(disable_help_flag = true, after_help = AFTER_LATE_REPORT_HELP)]
    LateReport(LateReportOptions),
    /// Show what the views of a running job contain
    #[command(disable_help_flag = true, after_help = AFTER_VIEWS_HELP)]
    Views(ViewsOptions),
    /// Look into the checkpoints of a job, and check them
    #[command(disable_help_flag = true, after_help = AFTER_CHECKPOINTS_HELP)]
    Checkpoints(CheckpointsOptions),
}

#[derive(Debug, Args)]
pub struct CheckpointsOptions {
    #[command(subcommand)]
    pub command: CheckpointsCommand,
}

#[derive(Debug, Subcommand)]
pub enum CheckpointsCommand {
    /// Which there are, of what age and size, and whether they are complete
    #[command(disable_help_flag = true, after_help = AFTER_CHECKPOINTS_LIST_HELP)]
    List(CheckpointsPlace),
    /// What one holds: offsets, watermarks, windows and keys with their results, sizes, outbox, manifest
    #[command(disable_help_flag = true, after_help = AFTER_CHECKPOINTS_INSPECT_HELP)]
    Inspect(InspectOptions),
    /// Check all of it
    #[command(disable_help_flag = true, after_help = AFTER_CHECKPOINTS_VERIFY_HELP)]
    Verify(VerifyOptions),
    /// How one differs from another
    #[command(disable_help_flag = true, after_help = AFTER_CHECKPOINTS_DIFF_HELP)]
    Diff(DiffOptions),
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("place").required(true).args(["path", "config"])))]
pub struct CheckpointsPlace {
    /// The directory of the checkpoints, or the URL of the object store that they are in
    #[arg(long, value_name = "DIR")]
    pub path: Option<PathBuf>,
    /// The configuration of the job, for its state.checkpoint_path
    #[arg(long, short = 'c', value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct InspectOptions {
    /// Which checkpoint
    #[arg(value_name = "EPOCH")]
    pub epoch: u64,
    #[command(flatten)]
    pub place: CheckpointsPlace,
    /// Only windows of keys that have this text in them
    #[arg(long, value_name = "TEXT")]
    pub key: Option<String>,
    /// Not more windows than these [default: 50, and all of them with --json]
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct VerifyOptions {
    /// Which checkpoint [default: all that are published]
    #[arg(value_name = "EPOCH")]
    pub epoch: Option<u64>,
    #[command(flatten)]
    pub place: CheckpointsPlace,
}

#[derive(Debug, Args)]
pub struct DiffOptions {
    /// The checkpoint to begin with
    #[arg(value_name = "A")]
    pub first: u64,
    /// The one that it is compared with
    #[arg(value_name = "B")]
    pub second: u64,
    #[command(flatten)]
    pub place: CheckpointsPlace,
    /// Not more windows than these
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub limit: usize,
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("where").required(true).multiple(true).args(["config", "url"])))]
pub struct LateReportOptions {
    /// The configuration of the job, for the address of its pages
    #[arg(long, short = 'c', value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The address of a process's pages; may be repeated, for the processes of one job
    #[arg(long, value_name = "URL")]
    pub url: Vec<String>,
    /// A further max_out_of_orderness to tell the share of late events for, such as 3s; may be repeated
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    pub bound: Vec<String>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("pages").required(true).multiple(true).args(["config", "url"])))]
pub struct ViewsOptions {
    /// The view to show
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// The configuration of the job, for the address of its pages
    #[arg(long, short = 'c', value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The address of a process's pages; may be repeated, for the processes of one job
    #[arg(long, value_name = "URL")]
    pub url: Vec<String>,
    /// Draw the table anew every second, until interrupted
    #[arg(long, conflicts_with = "json")]
    pub watch: bool,
    /// Not more rows of a view than these
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub limit: usize,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ConfigOption {
    /// The configuration, a YAML file
    #[arg(long, short = 'c', value_name = "FILE")]
    pub config: PathBuf,
}

/// What is said of a job, whoever starts its processes.
#[derive(Debug, Args)]
pub struct JobOptions {
    /// The configuration, a YAML file
    #[arg(long, short = 'c', value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Worker threads of each process [default: parallelism of the configuration]
    #[arg(long, short = 'w', value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// One host:port a line, in the order of the processes [default: localhost, ports from 2101]
    #[arg(long, short = 'h', value_name = "FILE")]
    pub hostfile: Option<PathBuf>,
    /// Go on from the checkpoint of this number instead of the newest; those after it count no more
    #[arg(long, value_name = "N", conflicts_with = "ignore_checkpoint")]
    pub from_checkpoint: Option<u64>,
    /// Begin anew although there are checkpoints; asks at a terminal
    #[arg(long)]
    pub ignore_checkpoint: bool,
    /// Go on although records are lost that the checkpoint goes on with; they are counted
    #[arg(long)]
    pub accept_loss: bool,
    /// Answer yes to what is asked
    #[arg(long, short = 'y')]
    pub yes: bool,
    /// Log one JSON object a line
    #[arg(long)]
    pub log_json: bool,
    /// What to log, as in `info,frontier=debug` [default: logging.filter of the configuration]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
}

impl JobOptions {
    /// The configuration that was given.
    pub fn config(&self) -> ProcessorResult<&Path> {
        self.config.as_deref().ok_or_else(|| ProcessorError::Config(FIRST_STEPS.into()))
    }

    /// What they say of checkpoints.
    pub fn start(&self) -> StartOptions {
        let from = match self.from_checkpoint {
            Some(number) => StartFrom::Checkpoint(Epoch::new(number)),
            None if self.ignore_checkpoint => StartFrom::Anew,
            None => StartFrom::Newest,
        };
        StartOptions { from, accept_loss: self.accept_loss }
    }

    /// What they say of the log, over what the configuration says.
    pub fn set_logging(&self, logging: &mut LoggingConfig) {
        logging.json |= self.log_json;
        if let Some(filter) = &self.log {
            logging.filter.clone_from(filter);
        }
    }
}

#[derive(Debug, Args)]
pub struct RunOptions {
    /// Processes of the job
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1)]
    pub processes: usize,
    /// This process's index, from 0, or a name that ends with it, such as a pod's: processor-2 [default: PROCESSOR_INDEX of the
    /// environment, or 0]
    #[arg(long, short = 'p', value_name = "INDEX", value_parser = index)]
    pub process: Option<usize>,
    #[command(flatten)]
    pub job: JobOptions,
    /// Write the summary to this file, as JSON, and not to standard error
    #[arg(long, value_name = "FILE", hide = true)]
    pub summary: Option<PathBuf>,
}

/// The variable of the environment for `-p`.
pub const INDEX_VARIABLE: &str = "PROCESSOR_INDEX";

impl RunOptions {
    /// This process's index. The error names the variable that is wrong.
    pub fn index(&self) -> ProcessorResult<usize> {
        match (self.process, std::env::var(INDEX_VARIABLE)) {
            (Some(process), _) => Ok(process),
            (None, Ok(text)) => index(&text)
                .map_err(|right| ProcessorError::Config(format!("{INDEX_VARIABLE} is `{text}`: it must be {right}"))),
            (None, Err(_)) => Ok(0),
        }
    }
}

#[derive(Debug, Args)]
pub struct LaunchOptions {
    /// Processes of the job, on all machines
    #[arg(long, short = 'n', value_name = "N")]
    pub processes: usize,
    #[command(flatten)]
    pub job: JobOptions,
    /// Give up after so many starts in a row, none of which came to a minute
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub max_restarts: u32,
}

impl LaunchOptions {
    /// The arguments of each process, at each start; `threads` are its workers.
    pub fn of_each(&self, config: &Path, threads: usize) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = ["run", "--config"].map(OsString::from).into();
        arguments.push(config.into());
        for (option, number) in [("-w", threads), ("-n", self.processes)] {
            arguments.extend([option.into(), number.to_string().into()]);
        }
        if let Some(hostfile) = &self.job.hostfile {
            arguments.extend(["-h".into(), hostfile.into()]);
        }
        if let Some(filter) = &self.job.log {
            arguments.extend(["--log".into(), filter.into()]);
        }
        arguments.extend(self.job.log_json.then(|| "--log-json".into()));
        arguments
    }

    /// Further arguments of the first start.
    pub fn of_the_first(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = Vec::new();
        if let Some(number) = self.job.from_checkpoint {
            arguments.extend(["--from-checkpoint".into(), number.to_string().into()]);
        }
        if self.job.ignore_checkpoint {
            arguments.extend(["--ignore-checkpoint".into(), "--yes".into()]);
        }
        arguments.extend(self.job.accept_loss.then(|| "--accept-loss".into()));
        arguments
    }
}

#[derive(Debug, Args)]
pub struct GenerateOptions {
    /// How many events; without it, until it is stopped
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// Events a second, timed by the wall clock; without it, as fast as it goes, at times that begin at a fixed instant
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub rate: Option<f64>,
    /// The same seed makes the same events
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub seed: u64,
    /// Distinct keys (model and region)
    #[arg(long, value_name = "N", default_value = "48")]
    pub keys: std::num::NonZeroU32,
    /// How far events are out of order: seconds, or text such as 500ms
    #[arg(long, value_name = "TIME", default_value = "2", allow_negative_numbers = true)]
    pub disorder: String,
    /// Share of events that come later than the disorder explains, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, allow_negative_numbers = true)]
    pub late: f64,
    /// Share of records that are malformed, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, allow_negative_numbers = true)]
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
/// `2`, or `processor-2` as the pods of a StatefulSet are called.
fn index(text: &str) -> Result<usize, String> {
    let number = text.rsplit('-').next().filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
    let wrong = "an index such as 2, or a name that ends with one, such as processor-2";
    number.and_then(|number| number.parse().ok()).ok_or_else(|| wrong.to_owned())
}
