//! The time that the end of a server takes. A service manager gives it a few seconds, and a disk or a volunteer may
//! give no answer at all. So all that is waited for at the end shares one budget of five seconds, which begins when the
//! server is told to stop. What has no answer by then is left: what was durable before is durable still.

use std::time::{Duration, Instant};

/// The end of a server, from its beginning on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopping {
    began: Instant,
}

/// What is waited for, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The last checkpoint.
    Checkpoint,
    /// The threads that write, which end when nothing waits for them.
    Closing,
    /// The volunteers' sockets, which have been closing meanwhile.
    Sockets,
}

impl Stage {
    /// The time since the beginning at which its wait is over. After the last stage the model and the summary are
    /// written, and the log has a second for its last lines.
    fn ends_after(self) -> Duration {
        Duration::from_millis(match self {
            Stage::Checkpoint => 2_750,
            Stage::Closing => 3_500,
            Stage::Sockets => 3_750,
        })
    }
}

impl Stopping {
    /// It begins now.
    pub(crate) fn now() -> Stopping {
        Stopping { began: Instant::now() }
    }

    /// When the wait of this stage is over.
    pub(crate) fn end_of(self, stage: Stage) -> Instant {
        self.began + stage.ends_after()
    }

    /// What is left of the time for this stage.
    pub(crate) fn left_for(self, stage: Stage) -> Duration {
        self.end_of(stage).saturating_duration_since(Instant::now())
    }
}
