//! What a native volunteer does, as plain lines: one whenever that changes.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bsp::time::Time;
use volunteer::messages::{State, Told};

/// What it does, and since when the server has been away.
#[derive(Debug)]
pub(crate) struct States {
    url: String,
    /// `None` for ever.
    give_up_after: Option<Duration>,
    said: Said,
    away: Option<Away>,
}

/// The last line.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Nothing,
    Connecting,
    /// It never was a member, and no try to become one has been answered.
    NoAnswer,
    /// It waits to start afresh, for this reason.
    Restarting(Cow<'static, str>),
    Training,
    Away,
    /// The same, since the server has no room.
    NoRoom,
    /// Nothing more can be kept.
    Full,
    /// The same, and the server is there.
    NotStored,
    Ended,
}

/// The time without a membership.
#[derive(Clone, Copy, Debug)]
struct Away {
    since: Time,
    /// It had been a member before.
    is_again: bool,
    /// A try has failed since.
    has_failed: bool,
}

impl States {
    /// A volunteer that begins.
    pub(crate) fn new(url: &str, give_up_after: Option<Duration>) -> States {
        States {
            url: url.to_owned(),
            give_up_after,
            said: Said::Nothing,
            away: None,
        }
    }

    /// The loop tells a state. Returns a line if there is something new to say.
    pub(crate) fn on_told(&mut self, now: Time, told: &Told) -> Option<String> {
        match told.state {
            State::Connecting => {
                self.begin_absence(now);
                if matches!(self.said, Said::NoAnswer | Said::Restarting(_)) {
                    // Each try would be a line, for ever.
                    return None;
                }
                self.say(Said::Connecting, |states| format!("connecting to {}", states.url))
            }
            State::Training | State::Paused => {
                let away = self.away.take();
                self.say(Said::Training, |_| match away {
                    Some(Away {
                        since, is_again: true, ..
                    }) => {
                        format!("training: resumed after {}", in_words(now.since(since)))
                    }
                    _ => "training".to_owned(),
                })
            }
            State::Reconnecting => {
                self.begin_absence(now);
                self.say(Said::Away, |states| {
                    let clock = clock(SystemTime::now());
                    let until = states.how_long();
                    format!("away since {clock}: the server does not answer; computing on, and trying again {until}")
                })
            }
            State::BackSoon => {
                self.begin_absence(now);
                self.say(Said::Away, |states| {
                    let (clock, until) = (clock(SystemTime::now()), states.how_long());
                    format!(
                        "away since {clock}: the server said that it will be back; computing on, and trying again \
                         {until}"
                    )
                })
            }
            State::NoRoom => {
                self.begin_absence(now);
                self.note_answer();
                self.say(Said::NoRoom, |_| {
                    "away: the server has as many volunteers as it takes; computing on, and trying again".to_owned()
                })
            }
            State::Waiting => {
                self.begin_absence(now);
                self.say(Said::Full, |_| {
                    "waiting: the memory for finished work is full; what is finished is kept".to_owned()
                })
            }
            State::NotStored => {
                self.note_answer();
                self.say(Said::NotStored, |_| {
                    "waiting: the server has not stored what it got, so that is kept, and the memory for it is full"
                        .to_owned()
                })
            }
            State::Restarting => {
                self.begin_absence(now);
                let because = told.detail.clone();
                self.say(Said::Restarting(because), |_| {
                    format!("waiting to start afresh: {}", told.detail)
                })
            }
            State::Finished => self.say(Said::Ended, |_| "finished: the run is finished; thank you".to_owned()),
            // The program's error says these.
            State::Refused | State::Failed | State::Left => None,
        }
    }

    /// A try to reach the server has failed.
    pub(crate) fn on_failure(&mut self) -> Option<String> {
        let away = self.away.as_mut()?;
        away.has_failed = true;
        if !matches!(self.said, Said::Connecting | Said::Restarting(_)) {
            return None;
        }
        self.say(Said::NoAnswer, |states| {
            let (clock, until) = (clock(SystemTime::now()), states.how_long());
            format!("waiting since {clock}: the server does not answer; trying again {until}")
        })
    }

    /// When it gives up, if nothing changes before.
    pub(crate) fn gives_up_at(&self) -> Option<Time> {
        let away = self.away.filter(|away| away.has_failed)?;
        Some(away.since + self.give_up_after?)
    }

    fn begin_absence(&mut self, now: Time) {
        let is_again = matches!(self.said, Said::Training | Said::NotStored);
        // A link that is lost is a try that has failed.
        let has_failed = is_again;
        self.away.get_or_insert(Away {
            since: now,
            is_again,
            has_failed,
        });
    }

    /// The server has answered, so that there is nothing to give up.
    fn note_answer(&mut self) {
        if let Some(away) = &mut self.away {
            away.has_failed = false;
        }
    }

    fn say(&mut self, said: Said, line: impl FnOnce(&States) -> String) -> Option<String> {
        if self.said == said {
            return None;
        }
        self.said = said;
        Some(line(self))
    }

    fn how_long(&self) -> String {
        match self.give_up_after {
            Some(limit) => format!("for {}", in_words(limit)),
            None => "for ever".to_owned(),
        }
    }
}

/// A time of the day: there is no table of time zones here.
fn clock(at: SystemTime) -> String {
    let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let [hours, minutes, seconds] = [seconds / 3600 % 24, seconds / 60 % 60, seconds % 60];
    format!("{hours:02}:{minutes:02}:{seconds:02} UTC")
}

/// Such as `2 h 5 min`, `10 min`, `12 s`.
pub(crate) fn in_words(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    let parts = [(seconds / 3600, "h"), (seconds / 60 % 60, "min"), (seconds % 60, "s")];
    let parts: Vec<String> = parts
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, unit)| format!("{number} {unit}"))
        .collect();
    match parts.is_empty() {
        true => "0 s".to_owned(),
        false => parts.join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn each_change_is_one_line_and_says_how_long_it_was_away() {
        let mut states = States::new("http://a:1", None);
        let mut say = |seconds, state: State| states.on_told(at(seconds), &state.into());
        assert_eq!(say(0, State::Connecting).unwrap(), "connecting to http://a:1");
        assert_eq!(say(1, State::Training).unwrap(), "training");
        let away = say(10, State::Reconnecting).unwrap();
        assert!(
            away.starts_with("away since ") && away.ends_with("trying again for ever"),
            "{away}"
        );
        assert_eq!(say(11, State::Reconnecting), None);
        assert_eq!(
            say(3735, State::Training).unwrap(),
            "training: resumed after 1 h 2 min 5 s"
        );
        say(4000, State::Restarting).unwrap();
        assert_eq!(say(4002, State::Connecting), None);
        assert_eq!(say(4003, State::Training).unwrap(), "training: resumed after 3 s");
        assert_eq!(
            say(4004, State::Finished).unwrap(),
            "finished: the run is finished; thank you"
        );
    }

    #[test]
    fn a_server_that_is_there_and_stores_nothing_is_not_away_and_no_reason_to_give_up() {
        let mut states = States::new("http://a:1", Some(Duration::from_secs(60)));
        let mut say = |seconds, state: State| states.on_told(at(seconds), &state.into());
        say(0, State::Connecting);
        say(1, State::Training);
        let waiting = say(2, State::NotStored).unwrap();
        assert!(waiting.contains("the server has not stored what it got"), "{waiting}");
        assert_eq!(say(3, State::Training).unwrap(), "training");
        say(10, State::Reconnecting);
        let waiting = say(20, State::Waiting).unwrap();
        assert!(waiting.contains("the memory for finished work is full"), "{waiting}");
        // It is back, and its memory is still full.
        say(30, State::NotStored).unwrap();
        assert_eq!(say(31, State::Training).unwrap(), "training: resumed after 21 s");
        say(40, State::NotStored);
        assert_eq!(states.gives_up_at(), None);
        states.on_told(at(50), &State::Reconnecting.into());
        states.on_told(at(51), &State::NotStored.into());
        assert_eq!(states.gives_up_at(), None, "the server has answered");
    }

    #[test]
    fn it_gives_up_only_after_a_try_that_failed_and_counts_from_the_beginning() {
        let limit = Duration::from_secs(60);
        let mut states = States::new("http://a:1", Some(limit));
        states.on_told(at(5), &State::Connecting.into());
        assert_eq!(states.gives_up_at(), None);
        let waiting = states.on_failure().unwrap();
        assert!(
            waiting.starts_with("waiting since ") && waiting.ends_with("for 1 min"),
            "{waiting}"
        );
        assert_eq!(states.on_failure(), None);
        assert_eq!(states.gives_up_at(), Some(at(65)));
        states.on_told(at(20), &State::Training.into());
        assert_eq!(states.gives_up_at(), None);
        states.on_told(at(30), &State::Reconnecting.into());
        states.on_told(at(40), &State::Restarting.into());
        assert_eq!(states.gives_up_at(), Some(at(90)));
    }

    #[test]
    fn a_clock_shows_the_time_of_the_day() {
        assert_eq!(clock(UNIX_EPOCH + Duration::from_secs(86_400 + 3_723)), "01:02:03 UTC");
    }
}
