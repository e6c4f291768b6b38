//! How often all connected volunteers are reviewed, so that the cost of a frame does not grow with their number.
//!
//! Whether a superstep closes depends on every expected volunteer: on its rate, and on the predicted arrival of its
//! next contribution. A review looks at all of them, and each event pays for 64 looks. With n volunteers there is one
//! review for n / 64 events; up to 64 volunteers, one follows each event.
//!
//! ```text
//! debt     looks that no event has paid for yet
//! event    debt ← max(debt − 64, 0)
//! time-out debt ← max(debt − looks, 0)                it pays for the review that follows it
//! review   debt ← debt + looks
//! due      when debt = 0
//!          or when as many volunteers have arrived as were missing at the last review, while debt ≤ 4 · looks
//! ```
//!
//! So a quorum is noticed late, by up to n / 64 frames. That is less than a hundredth of a superstep, in which each
//! volunteer sends a contribution and a receipt for the model. The last arrival is noticed at once. The bound on the
//! debt is for peers that come and go in order to cause reviews. A superstep begins without debt: its opening costs as
//! much as a review anyway.

/// An event pays for this many looks.
const LOOKS: usize = 64;
/// Reviews that arrivals may cause before events have paid for them.
const REVIEWS_ON_CREDIT: usize = 4;

/// The reviews of one superstep.
#[derive(Debug, Default)]
pub(super) struct Reviews {
    /// Volunteers that the last review has looked at.
    looked_at: usize,
    /// The number of arrivals that would have completed the superstep then; 0 if none was missing.
    missing: usize,
    /// Volunteers that have arrived since.
    arrivals: usize,
    /// Looks that no event has paid for yet.
    debt: usize,
}

impl Reviews {
    /// A frame has come, or a connection has ended.
    pub(super) fn on_event(&mut self) {
        self.debt = self.debt.saturating_sub(LOOKS);
    }

    /// A time-out has come, and a review follows. It pays for that itself: many time-outs must not keep the last
    /// arrival waiting.
    pub(super) fn on_timeout(&mut self) {
        self.debt = self.debt.saturating_sub(self.looked_at);
    }

    /// The superstep waits for one volunteer less, which has contributed, paused or left.
    pub(super) fn on_arrival(&mut self) {
        self.arrivals += 1;
    }

    /// Whether it is time for a review.
    pub(super) fn is_due(&self) -> bool {
        let may_be_complete = self.missing > 0 && self.arrivals >= self.missing;
        let has_credit = self.debt <= self.looked_at.saturating_mul(REVIEWS_ON_CREDIT);
        self.debt == 0 || (may_be_complete && has_credit)
    }

    /// A review has looked at `looked_at` volunteers, and the superstep waits for `missing` of them.
    pub(super) fn on_review(&mut self, looked_at: usize, missing: usize) {
        *self = Reviews {
            looked_at,
            missing,
            arrivals: 0,
            debt: self.debt.saturating_add(looked_at),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of reviews of `volunteers` volunteers in 10,000 events.
    fn reviews_of(volunteers: usize) -> usize {
        let mut reviews = Reviews::default();
        let mut count = 0;
        for _ in 0..10_000 {
            reviews.on_event();
            if reviews.is_due() {
                reviews.on_review(volunteers, volunteers);
                count += 1;
            }
        }
        count
    }

    #[test]
    fn an_event_costs_as_many_looks_however_many_volunteers_there_are() {
        assert_eq!(reviews_of(64), 10_000);
        for volunteers in [640, 6_400, 64_000] {
            let looks = reviews_of(volunteers) * volunteers;
            assert!(looks <= 10_000 * LOOKS + volunteers, "{looks} looks at {volunteers}");
        }
    }

    #[test]
    fn peers_that_come_and_go_can_not_cause_more_reviews_than_events_pay_for() {
        let mut reviews = Reviews::default();
        let mut looks = 0;
        for _ in 0..10_000 {
            reviews.on_event();
            reviews.on_arrival();
            if reviews.is_due() {
                reviews.on_review(6_400, 1);
                looks += 6_400;
            }
        }
        assert!(
            looks <= 10_000 * LOOKS + (REVIEWS_ON_CREDIT + 1) * 6_400,
            "{looks} looks"
        );
    }

    #[test]
    fn after_any_number_of_time_outs_the_last_arrival_is_followed_by_a_review_at_once() {
        let mut reviews = Reviews::default();
        for _ in 0..100 {
            reviews.on_timeout();
            reviews.on_review(10_000, 1);
        }
        reviews.on_event();
        reviews.on_arrival();
        assert!(reviews.is_due());
    }

    #[test]
    fn the_last_arrival_is_followed_by_a_review_at_once() {
        let mut reviews = Reviews::default();
        reviews.on_review(10_000, 3);
        for is_due in [false, false, true] {
            reviews.on_event();
            reviews.on_arrival();
            assert_eq!(reviews.is_due(), is_due);
        }
    }
}
