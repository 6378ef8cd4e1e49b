//! What the operators of one worker share about epochs.
//!
//! The model: one [`WorkerEpochs`] a worker, on its thread; clones are the same. The words of the coordinator come in by
//! [`WorkerEpochs::hear`] and wake the operators, which ask whether their epoch ends; what they have for the snapshot they hand to
//! the worker's writer, a thread of its own, through the [`WorkerPort`]. What is to be said to other workers waits here for the
//! operator that says it (see [`super::operator`]).

use super::port::{Part, WorkerPort};
use super::words::{Beginning, Word};
use super::{Changes, Ending, HasCuts, PartitionCut};
use crate::event::WorkerIndex;
use crate::sink::{SideMark, SinkHub};
use crate::time::{Epoch, EventTime, Time};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use timely::dataflow::operators::probe::Handle;
use timely::scheduling::Activator;

/// What the operators of one worker share about epochs. Clones are the same.
#[derive(Clone)]
pub struct WorkerEpochs {
    shared: Rc<RefCell<Shared>>,
    port: Rc<WorkerPort>,
    taken: Handle<Time>,
    worker: WorkerIndex,
    first: FirstEpoch,
}

/// Where a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstEpoch {
    /// The first epoch.
    pub epoch: Epoch,
    /// Where the frontier was when the epoch before it ended; [`EventTime::MIN`] where there was none.
    pub frontier: EventTime,
}

#[derive(Default)]
struct Shared {
    /// The last end that was announced.
    ending: Option<(Epoch, Ending)>,
    published: Option<Epoch>,
    over: bool,
    /// The cuts of the epoch that ends, until its checkpoint is published.
    cuts: Option<(Epoch, Vec<PartitionCut>)>,
    published_cuts: Option<Vec<PartitionCut>>,
    to_say: VecDeque<Word>,
    activators: Vec<Activator>,
    has_said_finished: bool,
    has_said_stopping: bool,
    /// A process was asked to end.
    is_stopping: bool,
    has_said_unready: bool,
    is_writing: bool,
    /// Whether views have a part in snapshots.
    has_views: bool,
    /// Windows have handed over all of this epoch, with the frontier; views have not.
    windows_done: Option<(Epoch, Option<EventTime>)>,
    views_done: Option<Epoch>,
}

impl WorkerEpochs {
    /// Of a worker of a run that begins here.
    pub fn new(worker: WorkerIndex, first: FirstEpoch, port: WorkerPort) -> Self {
        Self { shared: Rc::default(), port: Rc::new(port), taken: Handle::new(), worker, first }
    }

    /// Where the run begins.
    pub fn first(&self) -> FirstEpoch {
        self.first
    }

    /// The worker.
    pub fn worker(&self) -> WorkerIndex {
        self.worker
    }

    /// Follows the frontier behind the operator that has handed results to the sinks.
    pub fn taken(&self) -> &Handle<Time> {
        &self.taken
    }

    /// Has an operator woken when there is news.
    pub fn wake_on_news(&self, activator: Activator) {
        self.shared.borrow_mut().activators.push(activator);
    }

    /// Whether the end of this epoch, or of a later one, is announced.
    pub fn ends(&self, epoch: Epoch) -> bool {
        self.shared.borrow().ending.is_some_and(|(ending, _)| ending >= epoch)
    }

    /// Whether every worker is through with this epoch: it has been frozen, and its results are with the sinks.
    pub fn is_through(&self, epoch: Epoch) -> bool {
        self.taken.with_frontier(|frontier| frontier.iter().all(|time| time.epoch() > epoch))
    }

    /// Hands over the cuts of an epoch's end; side records that were given out before the mark belong to it.
    pub fn cut(&self, epoch: Epoch, cuts: Vec<PartitionCut>, mark: SideMark) {
        super::failpoint("cut");
        self.shared.borrow_mut().cuts = Some((epoch, cuts.clone()));
        self.port.hand_over(Part::Cuts { epoch, cuts, mark });
    }

    /// Room for so many bytes of changes that are to be handed over.
    pub fn room(&self, bytes: usize) -> Changes {
        self.port.room(bytes)
    }

    /// Hands over changes of windows, for the snapshot of the epoch that ends.
    pub fn window_changes(&self, changes: Changes) {
        if !changes.is_empty() {
            self.port.hand_over(Part::Changes(changes));
        }
    }

    /// All changes of windows up to the end of this epoch have been handed over; the frontier was here, or there was no more.
    pub fn windows_done(&self, epoch: Epoch, frontier: Option<EventTime>) {
        self.shared.borrow_mut().windows_done = Some((epoch, frontier));
        self.hand_over_done();
    }

    /// Views have a part in each snapshot, from the first on.
    pub fn expect_views(&self) {
        self.shared.borrow_mut().has_views = true;
    }

    /// All changes of what views retain have been handed over, up to the end of this epoch.
    pub fn views_done(&self, epoch: Epoch) {
        self.shared.borrow_mut().views_done = Some(epoch);
        self.hand_over_done();
    }

    /// Says that windows, and views where there are some, have handed over all.
    fn hand_over_done(&self) {
        let shared = &mut *self.shared.borrow_mut();
        let views_done = shared.views_done;
        let are_done = |epoch: &Epoch| !shared.has_views || views_done.is_some_and(|done| done >= *epoch);
        if let Some((epoch, frontier)) = shared.windows_done.take_if(|(epoch, _)| are_done(epoch)) {
            self.port.hand_over(Part::WindowsDone { epoch, frontier });
        }
    }

    /// The epoch up to which the worker's own store has all changes: they can be read there.
    pub fn stored(&self) -> Option<Epoch> {
        self.port.stored()
    }

    /// The cuts of a checkpoint that was published since the last call.
    pub fn take_published_cuts(&self) -> Option<Vec<PartitionCut>> {
        self.shared.borrow_mut().published_cuts.take()
    }

    /// The last epoch whose checkpoint is published in this run.
    pub fn published(&self) -> Option<Epoch> {
        self.shared.borrow().published
    }

    /// Whether everything of the last epoch is delivered, on all processes.
    pub fn is_over(&self) -> bool {
        self.shared.borrow().over
    }

    /// Whether the run ends because a process was asked to.
    pub fn was_stopped(&self) -> bool {
        self.shared.borrow().ending.is_some_and(|(_, ending)| ending == Ending::Stop)
    }

    /// Says that this worker has read its input to the end.
    pub fn say_finished(&self) {
        let mut shared = self.shared.borrow_mut();
        if !std::mem::replace(&mut shared.has_said_finished, true) {
            shared.to_say.push_back(Word::Finished(self.worker));
        }
    }

    /// Takes note whether a snapshot of the windows is being written.
    pub fn windows_are_written(&self, is_writing: bool) {
        self.shared.borrow_mut().is_writing = is_writing;
    }

    /// Whether a snapshot of the windows is being written: rows cost several times as much then.
    pub fn is_writing(&self) -> bool {
        self.shared.borrow().is_writing
    }

    /// Says that this process was asked to end.
    pub fn say_stopping(&self) {
        let mut shared = self.shared.borrow_mut();
        if !std::mem::replace(&mut shared.has_said_stopping, true) {
            shared.to_say.push_back(Word::Stopping);
        }
    }

    /// Whether a process was asked to end, and the coordinator knows.
    pub fn is_stopping(&self) -> bool {
        self.shared.borrow().is_stopping
    }

    /// Says that the worker has not come so far as to know its partitions when the end was asked for; `has_cuts`: it hands on those
    /// that were restored.
    pub fn say_unready(&self, has_cuts: bool) {
        let mut shared = self.shared.borrow_mut();
        if !std::mem::replace(&mut shared.has_said_unready, true) {
            shared.to_say.push_back(Word::Unready(self.worker, HasCuts(has_cuts)));
        }
    }

    /// Says what the process begins with, on its first worker.
    pub fn say_beginning(&self, beginning: Beginning) {
        if self.port.is_first_of_process() {
            self.say(Word::Begins(beginning));
        }
    }

    /// Says that a checkpoint would be welcome.
    pub fn say_wanted(&self) {
        let mut shared = self.shared.borrow_mut();
        if !shared.to_say.contains(&Word::Wanted) {
            shared.to_say.push_back(Word::Wanted);
        }
    }

    /// Says this.
    pub fn say(&self, word: Word) {
        self.shared.borrow_mut().to_say.push_back(word);
    }

    /// What is to be said, from here and from the threads of the process.
    pub fn take_words(&self) -> Vec<Word> {
        let mut words: Vec<Word> = self.shared.borrow_mut().to_say.drain(..).collect();
        words.extend(self.port.take_words());
        words
    }

    /// Hears a word of the coordinator's; other words change nothing here. The first worker of a process tells its sinks.
    pub fn hear(&self, word: &Word, hub: &SinkHub) {
        let mut shared = self.shared.borrow_mut();
        match word {
            Word::Ends(epoch, ending) => shared.ending = Some((*epoch, *ending)),
            Word::Published(epoch, _) => {
                shared.published = Some(*epoch);
                shared.published_cuts = shared.cuts.take_if(|(of, _)| of == epoch).map(|(_, cuts)| cuts);
                if self.port.is_first_of_process() {
                    hub.commit(*epoch);
                }
            }
            Word::Over(_) => shared.over = true,
            Word::Stopping => shared.is_stopping = true,
            _ => return,
        }
        shared.activators.iter().for_each(Activator::activate);
    }
}
