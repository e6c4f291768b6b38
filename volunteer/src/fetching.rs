//! Which shard a volunteer fetches next, and when.
//!
//! One at a time, in the order in which its ML modules come to want them, and not long before. So a volunteer that
//! stays for a minute is not sent the whole data set, and unpacking shards does not take the cores from the first
//! gradients. A volunteer that computes faster than its link delivers fetches without a pause.

use nn::data::samples::Wanted;

/// How many windows of steps before it is wanted a shard is fetched. A window of a small CNN lasts about a second.
const WINDOWS_AHEAD: u64 = 3;

/// The fetches of one volunteer.
#[derive(Debug, Default)]
pub struct Fetching {
    order: Vec<Wanted>,
    next: usize,
    is_under_way: bool,
}

impl Fetching {
    /// Nothing is fetched yet of the shards in this order.
    pub fn new(order: Vec<Wanted>) -> Fetching {
        Fetching {
            order,
            next: 0,
            is_under_way: false,
        }
    }

    /// The shard to fetch now, if it is time for one: then it is under way, until [`Fetching::on_ended`].
    ///
    /// `window` is the one that the ML modules have come to.
    pub fn start(&mut self, window: u64) -> Option<usize> {
        let wanted = self.order.get(self.next)?;
        if self.is_under_way || wanted.window > window.saturating_add(WINDOWS_AHEAD) {
            return None;
        }
        self.next += 1;
        self.is_under_way = true;
        Some(wanted.shard)
    }

    /// The fetch that was under way has brought its shard, or was given up.
    pub fn on_ended(&mut self) {
        self.is_under_way = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shards 10, 11, … of which each is wanted a window after the one before.
    fn one_in_each_window(shards: u64) -> Fetching {
        let wanted = |window| Wanted {
            shard: 10 + window as usize,
            window,
        };
        Fetching::new((0..shards).map(wanted).collect())
    }

    /// The shards that are fetched at once in a window.
    fn fetched_in(window: u64, fetching: &mut Fetching) -> Vec<usize> {
        std::iter::from_fn(|| {
            let shard = fetching.start(window);
            fetching.on_ended();
            shard
        })
        .collect()
    }

    #[test]
    fn one_fetch_is_under_way_at_a_time() {
        let mut fetching = one_in_each_window(3);
        assert_eq!(fetching.start(0), Some(10));
        assert_eq!(fetching.start(0), None);
        fetching.on_ended();
        assert_eq!(fetching.start(0), Some(11));
    }

    #[test]
    fn a_shard_is_fetched_a_few_windows_before_it_is_wanted_and_no_sooner() {
        let mut fetching = one_in_each_window(100);
        assert_eq!(fetched_in(0, &mut fetching), [10, 11, 12, 13]);
        assert_eq!(fetched_in(1, &mut fetching), [14]);
        assert!(fetched_in(1, &mut fetching).is_empty());
        assert_eq!(fetched_in(3, &mut fetching), [15, 16]);
    }

    #[test]
    fn a_volunteer_that_had_to_leave_out_a_pass_fetches_without_a_pause() {
        let mut fetching = one_in_each_window(30);
        assert_eq!(fetched_in(30, &mut fetching).len(), 30);
        assert!(fetched_in(u64::MAX, &mut fetching).is_empty());
    }
}
