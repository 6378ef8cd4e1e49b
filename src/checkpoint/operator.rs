//! The operator through which workers speak about checkpoints, and the coordinator's seat.
//!
//! The model: each worker has an output on which it says its words, which are broadcast, and an input where it hears those of all.
//! Both are apart from the data: the capability with which words are said is never moved, and nobody waits for it. The first
//! worker's operator has the coordinator, which hears the words as they come and the clock some times a second.

use super::words::{Beginning, Word};
use super::{Command, Coordinator, Ending, Event, ProcessIndex, Step, Voice, WorkerEpochs};
use crate::runtime::Control;
use crate::sink::SinkHub;
use crate::time::{Epoch, Time};
use crossbeam_channel::Receiver;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Scope;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::vec::Broadcast;

/// How often the clock is looked at.
const TICK: Duration = Duration::from_millis(20);

/// The process of the coordinator.
const FIRST_PROCESS: ProcessIndex = ProcessIndex(0);

/// What the publisher is to do; the reports are those of all workers.
#[derive(Debug)]
pub enum Order {
    /// Publish the checkpoint.
    Publish(Epoch, Ending, Vec<String>),
    /// Prepare it, and have the other processes do so.
    Prepare(Epoch, Ending, Vec<String>),
    /// Publish what all processes have prepared.
    Commit(Epoch),
}

/// Told of each decision of the coordinator.
pub type CommandObserver = Box<dyn FnMut(&Command<String>)>;

/// Told of each word that is heard.
pub type WordObserver = Box<dyn FnMut(&Word)>;

/// What the coordinator needs beside its decisions.
pub struct CoordinatorSeat {
    /// The decisions.
    pub coordinator: Coordinator<String>,
    /// Has a checkpoint prepared or published, on another thread.
    pub publish: Box<dyn FnMut(Order)>,
    /// What has been prepared and published; the worker's voice is woken for each.
    pub published: Receiver<Step>,
    /// Told what is decided, for the log and the status.
    pub observer: CommandObserver,
}

/// What the operator needs from its surroundings.
pub struct CheckpointSettings {
    /// What the worker's operators share.
    pub epochs: WorkerEpochs,
    /// On the first worker of the job.
    pub seat: Option<CoordinatorSeat>,
    /// The sinks of the process.
    pub hub: SinkHub,
    /// What the process begins with; a job whose processes differ in that ends.
    pub beginning: Beginning,
    /// Told of each word that is heard, for the status; on the first worker of a process.
    pub heard: Option<WordObserver>,
    /// The run's switch.
    pub control: Control,
    /// The worker's voice: it is given what wakes the operator.
    pub voice: Voice,
}

/// Builds the operator.
pub fn checkpoints(scope: Scope<'_, Time>, settings: CheckpointSettings) {
    let CheckpointSettings { epochs, seat, hub, beginning, mut heard, control, voice } = settings;
    epochs.say_beginning(beginning);
    let begin = Instant::now();
    let seat = Rc::new(RefCell::new(seat));

    let mut builder = OperatorBuilder::new("checkpoints".to_owned(), scope);
    let address = builder.operator_info().address;
    let activator = scope.activator_for(Rc::clone(&address));
    let wake = scope.activator_for(Rc::clone(&address));
    voice.set_activator(scope.worker().sync_activator_for(address.to_vec()));
    let (words, stream) = builder.new_output::<Vec<Word>>();
    let mut words = OutputBuilder::<_, CapacityContainerBuilder<Vec<Word>>>::from(words);
    let (speaking, ticking) = (epochs.clone(), Rc::clone(&seat));
    builder.build(move |mut capabilities| {
        let capability = capabilities.pop().expect("one capability an output");
        move |_frontiers| {
            if let Some(seat) = ticking.borrow_mut().as_mut() {
                seat.tick(begin.elapsed(), &speaking);
            }
            let said = speaking.take_words();
            if !said.is_empty() {
                let mut output = words.activate();
                let mut session = output.session(&capability);
                said.into_iter().for_each(|word| session.give(word));
            }
            activator.activate_after(TICK);
        }
    });

    let said = stream.broadcast();
    let mut builder = OperatorBuilder::new("hear-checkpoints".to_owned(), scope);
    let mut input = builder.new_input(said, Pipeline);
    builder.build(move |_capabilities| {
        move |_frontiers| {
            input.for_each(|_capability, words| {
                for word in words.drain(..) {
                    epochs.hear(&word, &hub);
                    if let Some(heard) = &mut heard {
                        heard(&word);
                    }
                    if let Word::Begins(other) = &word
                        && let Some(error) = beginning.conflict(other)
                    {
                        control.fail(error);
                    }
                    if let Some(seat) = seat.borrow_mut().as_mut() {
                        seat.hear_word(word, begin.elapsed(), &epochs);
                    }
                    wake.activate();
                }
            });
        }
    });
}

impl CoordinatorSeat {
    fn tick(&mut self, now: Duration, epochs: &WorkerEpochs) {
        while let Ok(step) = self.published.try_recv() {
            match step {
                Step::Prepared(epoch, manifest) => {
                    epochs.say(Word::Prepare(epoch, manifest));
                    self.hear(Event::Prepared(FIRST_PROCESS, epoch), now, epochs);
                }
                Step::Published(epoch) => self.hear(Event::Published(epoch), now, epochs),
            }
        }
        self.hear(Event::Tick, now, epochs);
    }

    fn hear_word(&mut self, word: Word, now: Duration, epochs: &WorkerEpochs) {
        let event = match word {
            Word::Reported(worker, epoch, report) => Event::Reported(worker, epoch, report),
            Word::Prepared(process, epoch) => Event::Prepared(process, epoch),
            Word::Committed(process, epoch) => Event::Committed(process, epoch),
            Word::Wanted => Event::Wanted,
            Word::Stopping => Event::Stopping,
            Word::Finished(worker) => Event::Finished(worker),
            Word::Unready(worker, has_cuts) => Event::Unready(worker, has_cuts),
            // Its own words.
            Word::Ends(..) | Word::Prepare(..) | Word::Published(..) | Word::Over(_) => return,
            // Every process looks at it by itself.
            Word::Begins(_) => return,
        };
        self.hear(event, now, epochs);
    }

    fn hear(&mut self, event: Event<String>, now: Duration, epochs: &WorkerEpochs) {
        for command in self.coordinator.hear(event, now) {
            (self.observer)(&command);
            match command {
                Command::Announce(epoch, ending) => epochs.say(Word::Ends(epoch, ending)),
                Command::Prepare(epoch, ending, reports) => (self.publish)(Order::Prepare(epoch, ending, reports)),
                Command::Commit(epoch) => (self.publish)(Order::Commit(epoch)),
                Command::Publish(epoch, ending, reports) => (self.publish)(Order::Publish(epoch, ending, reports)),
                Command::TellPublished(epoch, ending) => epochs.say(Word::Published(epoch, ending)),
                Command::TellOver(epoch) => epochs.say(Word::Over(epoch)),
                Command::Overdue(_) => {}
            }
        }
    }
}
