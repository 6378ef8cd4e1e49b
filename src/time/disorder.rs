//! How far the events of a partition are out of order.
//!
//! The model: each event is some milliseconds behind the latest event time that its partition had shown before it, or 0 where it
//! is the latest itself. These distances are counted in buckets whose width grows with the distance, as in an HDR histogram
//! (Gil Tene's HdrHistogram: an exponent and some bits below it): to the millisecond up to 63 ms, and beyond that each power of
//! two is cut into 32 parts. Latest times do not depend on `max_out_of_orderness`, so one histogram answers for every bound: an
//! event is late under a bound if its distance is greater.
//!
//! How exact it is: a bucket is at most 1/32 of its least distance wide ([`Disorder::RELATIVE_ERROR`]). Answers are functions of
//! the buckets alone and lean to the safe side: [`Disorder::late_with`] is the exact count for a bound that is at most that much
//! smaller, [`Disorder::bound_for`] is the exact bound or at most that much greater. Counts add up over partitions, runs and
//! processes.

use super::{EventTime, Span};

/// Bits below the exponent.
const FINE_BITS: u32 = 5;
const FINE: usize = 1 << FINE_BITS;

/// A share of all events, in hundredths of a percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u16);

impl Share {
    /// `hundredths` of a percent; more than 10,000 counts as all.
    pub const fn of_hundredths(hundredths: u16) -> Self {
        Share(if hundredths > 10_000 { 10_000 } else { hundredths })
    }

    /// Between 0 and 1.
    pub fn as_fraction(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }

    /// How many of `events` may be left out for this share of them to be in.
    fn leaves_out(self, events: u64) -> u64 {
        let left_out = u128::from(events) * u128::from(10_000 - self.0) / 10_000;
        // A part of a u64.
        left_out as u64
    }
}

/// Events that follow one another: the latest of them and of those before, and how far the furthest behind is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    before: EventTime,
    latest: EventTime,
    furthest: u64,
}

impl Stretch {
    /// Of these events; `before` is the latest event time before them. One pass without a branch: it decides whether a batch may
    /// go the fast way.
    #[inline]
    pub fn of(before: EventTime, times: &[EventTime]) -> Self {
        let (mut latest, mut furthest) = (before, 0);
        for time in times {
            latest = latest.max(*time);
            furthest = furthest.max(behind(latest, *time));
        }
        Stretch { before, latest, furthest }
    }

    /// The latest event time, of these events and those before.
    #[inline]
    pub fn latest(&self) -> EventTime {
        self.latest
    }

    /// Whether no event is further behind than `bound`: with `max_out_of_orderness`, all are on time.
    #[inline]
    pub fn is_within(&self, bound: Span) -> bool {
        self.furthest <= bound.as_millis().unsigned_abs()
    }
}

/// The distribution of how far events were behind the latest one before them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disorder {
    /// By bucket, as far as there are events.
    buckets: Vec<u64>,
    greatest: u64,
    late: u64,
}

impl Disorder {
    /// The width of a bucket, as a part of the distances in it: what separates answers from the truth at most.
    pub const RELATIVE_ERROR: f64 = 1.0 / FINE as f64;

    /// Counts an event that is this far behind the latest one before it, and whether it was late under the bound in force.
    #[inline]
    pub fn record(&mut self, behind: Span, late: bool) {
        self.add(behind.as_millis().unsigned_abs(), 1);
        self.late += u64::from(late);
    }

    /// Counts the events of a stretch, of which none is late.
    fn record_on_time(&mut self, stretch: Stretch, times: &[EventTime]) {
        let buckets = self.buckets.as_mut_slice();
        let mut latest = stretch.before;
        for time in times {
            latest = latest.max(*time);
            count_in(buckets, behind(latest, *time));
        }
    }

    /// Counts the events of a stretch, and calls `late` with each that is further behind than `max_out_of_orderness`, the bound in
    /// force: its place in `times`, of which the stretch was made, and the watermark that it is behind.
    pub fn record_all(
        &mut self,
        stretch: Stretch,
        times: &[EventTime],
        max_out_of_orderness: Span,
        mut late: impl FnMut(usize, EventTime),
    ) {
        const AT_ONCE: usize = 64;
        self.make_room_for(stretch.furthest);
        if stretch.is_within(max_out_of_orderness) {
            return self.record_on_time(stretch, times);
        }
        let bound = max_out_of_orderness.as_millis().unsigned_abs();
        let mut latest = stretch.before;
        let mut found = [(0, EventTime::MIN); AT_ONCE];
        for (chunk, times) in times.chunks(AT_ONCE).enumerate() {
            let mut count = 0;
            for (place, time) in times.iter().enumerate() {
                latest = latest.max(*time);
                let behind = behind(latest, *time);
                count_in(&mut self.buckets, behind);
                // Written always, and kept if it is late: a branch would be guessed wrong with every late event.
                found[count % AT_ONCE] = (chunk * AT_ONCE + place, latest);
                count += usize::from(behind > bound);
            }
            self.late += count as u64;
            for (place, latest) in &found[..count] {
                late(*place, latest.saturating_sub(max_out_of_orderness));
            }
        }
    }

    #[inline]
    fn add(&mut self, behind: u64, count: u64) {
        self.make_room_for(behind);
        self.buckets[bucket_of(behind)] += count;
    }

    /// Makes room for a distance, and for those near it, which will not be long in coming.
    #[inline]
    fn make_room_for(&mut self, behind: u64) {
        self.greatest = self.greatest.max(behind);
        let bucket = bucket_of(behind);
        if bucket >= self.buckets.len() {
            self.buckets.resize((bucket + 1).next_multiple_of(FINE), 0);
        }
    }

    /// Adds what another has counted.
    pub fn merge(&mut self, other: &Disorder) {
        for (bucket, count) in other.buckets.iter().enumerate().filter(|(_, count)| **count > 0) {
            self.add(least_of(bucket), *count);
        }
        self.greatest = self.greatest.max(other.greatest);
        self.late += other.late;
    }

    /// From what [`Disorder::buckets`], [`Disorder::greatest`] and [`Disorder::late`] of another one said.
    pub fn from_buckets(buckets: impl IntoIterator<Item = (Span, u64)>, greatest: Span, late: u64) -> Self {
        let mut disorder = Disorder::default();
        for (up_to, count) in buckets {
            disorder.add(up_to.as_millis().unsigned_abs(), count);
        }
        disorder.greatest = greatest.as_millis().unsigned_abs();
        disorder.late = late;
        disorder
    }

    /// The buckets that hold events, ascending: the greatest distance of each, and how many events are in it.
    pub fn buckets(&self) -> impl Iterator<Item = (Span, u64)> {
        let counted = self.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
        counted.map(|(bucket, count)| (span(greatest_of(bucket)), *count))
    }

    /// Events that were counted.
    pub fn events(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Events among them that were late under the bound in force, accepted or not. This is exact.
    pub fn late(&self) -> u64 {
        self.late
    }

    /// The greatest distance of all, to the millisecond: the bound under which no event would have been late.
    pub fn greatest(&self) -> Span {
        span(self.greatest)
    }

    /// How many events would have been late with a `max_out_of_orderness` of `bound`. Events whose bucket the bound is in the
    /// middle of count as late.
    pub fn late_with(&self, bound: Span) -> u64 {
        let bound = bound.as_millis().unsigned_abs();
        if bound >= self.greatest {
            return 0;
        }
        let bucket = bucket_of(bound);
        let first_late = if greatest_of(bucket) <= bound { bucket + 1 } else { bucket };
        self.buckets.iter().skip(first_late).sum()
    }

    /// The least `max_out_of_orderness` with which at least this share of the events would have been on time.
    pub fn bound_for(&self, share: Share) -> Span {
        let may_be_late = share.leaves_out(self.events());
        let mut late = 0;
        for (bucket, count) in self.buckets.iter().enumerate().rev() {
            late += count;
            if late > may_be_late {
                return span(greatest_of(bucket).min(self.greatest));
            }
        }
        Span::ZERO
    }
}

/// How far a time is behind the latest, which it is not after.
#[inline]
fn behind(latest: EventTime, time: EventTime) -> u64 {
    // The difference of two i64, the first at least the second, fits a u64.
    latest.as_millis().wrapping_sub(time.as_millis()) as u64
}

/// Counts an event that is no further behind than the buckets reach.
#[inline]
fn count_in(buckets: &mut [u64], behind: u64) {
    if let Some(bucket) = buckets.get_mut(bucket_of(behind)) {
        *bucket += 1;
    }
}

fn span(millis: u64) -> Span {
    Span::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}

#[inline]
fn bucket_of(behind: u64) -> usize {
    let exponent = 63 - (behind | FINE as u64).leading_zeros();
    let shift = exponent - FINE_BITS;
    shift as usize * FINE + (behind >> shift) as usize
}

/// The bits that a bucket's distances are shifted by, and what is left of them then.
fn parts_of(bucket: usize) -> (u32, u64) {
    let shift = (bucket / FINE).saturating_sub(1);
    // A shift is less than 64.
    (shift as u32, (bucket - shift * FINE) as u64)
}

fn least_of(bucket: usize) -> u64 {
    let (shift, rest) = parts_of(bucket);
    rest << shift
}

fn greatest_of(bucket: usize) -> u64 {
    let (shift, rest) = parts_of(bucket);
    (rest << shift) | ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_cover_all_distances_without_gaps() {
        assert_eq!((least_of(0), greatest_of(0), bucket_of(0)), (0, 0, 0));
        let last = bucket_of(u64::MAX);
        for bucket in 1..=last {
            let (least, greatest) = (least_of(bucket), greatest_of(bucket));
            assert_eq!(least, greatest_of(bucket - 1) + 1, "{bucket}");
            assert_eq!((bucket_of(least), bucket_of(greatest)), (bucket, bucket));
            let width = greatest - least;
            assert!(width as f64 <= Disorder::RELATIVE_ERROR * least as f64, "{bucket}: {least} to {greatest}");
            assert!(greatest > 63 || width == 0);
        }
        assert_eq!(greatest_of(last), u64::MAX);
    }

    #[test]
    fn the_ends_of_time() {
        let mut disorder = Disorder::default();
        let times = [EventTime::MAX, EventTime::MIN, EventTime::MAX];
        let stretch = Stretch::of(EventTime::MIN, &times);
        assert!(!stretch.is_within(Span::from_millis(i64::MAX)) && stretch.latest() == EventTime::MAX);
        disorder.record_all(stretch, &times, Span::from_millis(i64::MAX), |_, _| ());
        assert_eq!((disorder.events(), disorder.late(), disorder.greatest().as_millis()), (3, 1, i64::MAX));
        assert_eq!(disorder.late_with(Span::ZERO), 1);
        assert_eq!(Disorder::default().bound_for(Share::of_hundredths(10_000)), Span::ZERO);
        assert_eq!(Disorder::default().late_with(Span::ZERO), 0);
    }

    /// The distances of events in their order, by the definition.
    fn distances(times: &[i64]) -> Vec<i64> {
        let before = |index: usize| times[..index].iter().max().map_or(0, |latest| (latest - times[index]).max(0));
        (0..times.len()).map(before).collect()
    }

    /// With a bound in force of 50 ms.
    fn counted(times: &[i64], portion: usize) -> Disorder {
        const BOUND: Span = Span::from_millis(50);
        let times: Vec<EventTime> = times.iter().copied().map(EventTime::from_millis).collect();
        let (mut disorder, mut latest, mut before) = (Disorder::default(), EventTime::MIN, 0);
        for portion in times.chunks(portion) {
            let stretch = Stretch::of(latest, portion);
            disorder.record_all(stretch, portion, BOUND, |place, watermark| {
                let latest = times[..before + place].iter().max();
                assert_eq!(latest.map(|latest| latest.saturating_sub(BOUND)), Some(watermark));
                assert!(portion[place] < watermark);
            });
            before += portion.len();
            latest = stretch.latest();
        }
        disorder
    }

    fn times() -> impl Strategy<Value = Vec<i64>> {
        let time = prop_oneof![6 => 0i64..100, 3 => -5_000i64..100_000, 1 => -10_000_000_000i64..10_000_000_000];
        proptest::collection::vec(time, 1..300)
    }

    proptest! {
        /// Against sorting: the count and the bound lie between the exact ones for a bound and for one a bucket's width off.
        #[test]
        fn answers_are_those_of_sorting_within_a_buckets_width(
            times in times(),
            portion in 1usize..200,
            bound in prop_oneof![0i64..200, 0i64..200_000],
            hundredths in 0u16..=10_000,
        ) {
            let disorder = counted(&times, portion);
            let mut exact = distances(&times);
            exact.sort_unstable();
            prop_assert_eq!(disorder.events(), exact.len() as u64);
            prop_assert_eq!(disorder.greatest().as_millis(), exact[exact.len() - 1]);

            let late = |bound: f64| exact.iter().filter(|behind| **behind as f64 > bound).count() as u64;
            let answer = disorder.late_with(Span::from_millis(bound));
            prop_assert!(answer >= late(bound as f64));
            prop_assert!(answer <= late(bound as f64 / (1.0 + Disorder::RELATIVE_ERROR) - 1.0));
            if bound < 64 {
                prop_assert_eq!(answer, late(bound as f64));
            }

            let share = Share::of_hundredths(hundredths);
            let answer = disorder.bound_for(share).as_millis();
            let on_time_at_least = (exact.len() as u64 * u64::from(hundredths)).div_ceil(10_000) as usize;
            let least = if on_time_at_least == 0 { 0 } else { exact[on_time_at_least - 1] };
            prop_assert!(answer >= least, "{answer} {least}");
            prop_assert!(answer as f64 <= least as f64 * (1.0 + Disorder::RELATIVE_ERROR), "{answer} {least}");
            prop_assert!(disorder.late_with(Span::from_millis(answer)) as usize <= exact.len() - on_time_at_least);
        }

        #[test]
        fn portions_single_events_and_sums_count_the_same(times in times(), other in times(), portion in 1usize..200) {
            let mut single = Disorder::default();
            for behind in distances(&times) {
                single.record(Span::from_millis(behind), behind > 50);
            }
            let late = single.late();
            prop_assert_eq!(late, distances(&times).iter().filter(|behind| **behind > 50).count() as u64);
            let batches = counted(&times, portion);
            prop_assert!(single.buckets().eq(batches.buckets()));
            prop_assert_eq!(batches.late(), late);

            let told = Disorder::from_buckets(single.buckets(), single.greatest(), late);
            prop_assert!(told.buckets().eq(single.buckets()));
            prop_assert_eq!((told.greatest(), told.late()), (single.greatest(), late));

            let mut sum = told;
            sum.merge(&counted(&other, portion));
            let mut both = single;
            for behind in distances(&other) {
                both.record(Span::from_millis(behind), false);
            }
            prop_assert!(sum.buckets().eq(both.buckets()));
            prop_assert_eq!((sum.events(), sum.greatest()), (both.events(), both.greatest()));
            for bound in [0, 10, 1_000, 50_000].map(Span::from_millis) {
                prop_assert_eq!(sum.late_with(bound), both.late_with(bound));
            }
        }
    }
}
