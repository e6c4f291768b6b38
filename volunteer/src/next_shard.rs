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
pub(crate) struct NextShard {
    order: Vec<Wanted>,
    next: usize,
    is_under_way: bool,
}

impl NextShard {
    /// Nothing is fetched yet of the shards in this order.
    pub(crate) fn new(order: Vec<Wanted>) -> NextShard {
        NextShard {
            order,
            next: 0,
            is_under_way: false,
        }
    }

    /// The shard to fetch now, if it is time for one: then it is under way, until [`NextShard::on_ended`].
    ///
    /// `window` is the one that the ML modules have come to.
    pub(crate) fn start(&mut self, window: u64) -> Option<usize> {
        let wanted = self.order.get(self.next)?;
        if self.is_under_way || wanted.window > window.saturating_add(WINDOWS_AHEAD) {
            return None;
        }
        self.next += 1;
        self.is_under_way = true;
        Some(wanted.shard)
    }

    /// The fetch that was under way has brought its shard, or was given up.
    pub(crate) fn on_ended(&mut self) {
        self.is_under_way = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shards 10, 11, … of which each is wanted a window after the one before.
    fn one_in_each_window(shards: u64) -> NextShard {
        let wanted = |window| Wanted {
            shard: 10 + window as usize,
            window,
        };
        NextShard::new((0..shards).map(wanted).collect())
    }

    /// The shards that are fetched at once in a window.
    fn fetched_in(window: u64, next_shard: &mut NextShard) -> Vec<usize> {
        std::iter::from_fn(|| {
            let shard = next_shard.start(window);
            next_shard.on_ended();
            shard
        })
        .collect()
    }

    #[test]
    fn one_fetch_is_under_way_at_a_time() {
        let mut next_shard = one_in_each_window(3);
        assert_eq!(next_shard.start(0), Some(10));
        assert_eq!(next_shard.start(0), None);
        next_shard.on_ended();
        assert_eq!(next_shard.start(0), Some(11));
    }

    #[test]
    fn a_shard_is_fetched_a_few_windows_before_it_is_wanted_and_no_sooner() {
        let mut next_shard = one_in_each_window(100);
        assert_eq!(fetched_in(0, &mut next_shard), [10, 11, 12, 13]);
        assert_eq!(fetched_in(1, &mut next_shard), [14]);
        assert!(fetched_in(1, &mut next_shard).is_empty());
        assert_eq!(fetched_in(3, &mut next_shard), [15, 16]);
    }

    #[test]
    fn a_volunteer_that_had_to_leave_out_a_pass_fetches_without_a_pause() {
        let mut next_shard = one_in_each_window(30);
        assert_eq!(fetched_in(30, &mut next_shard).len(), 30);
        assert!(fetched_in(u64::MAX, &mut next_shard).is_empty());
    }
}
