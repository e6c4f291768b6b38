//! The BSP worker: the driver around a tab's loop and local BSP module (103). What is decided, the loop decides.
//!
//! After an ML module's death `web/bsp-gate.js` lets only [`BspWorker::on_ml_module_died`] and
//! [`BspWorker::on_timeout`] in. Whatever these do here may take no memory and give none back: the dead ML module may
//! hold the allocator's lock.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use js_sys::Function;
use volunteer::action::Action;
use volunteer::fetch::Resource;
use volunteer::messages::{FromBspWorker, ToBspWorker};
use volunteer::settings::Settings;
use volunteer::sleep_clock::SleepClock;
use volunteer::volunteer_loop::VolunteerLoop;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::spawn_local;
use web_sys::DedicatedWorkerGlobalScope;

use crate::clock;
use crate::messages::{Page, log, read};
use crate::ml_worker;
use crate::shards::Fetcher;
use crate::socket::{Socket, SocketEvent};
use crate::timer::{Interval, Timer};

/// How often the page hears how much was done.
const PROGRESS_EVERY_MS: i32 = 250;

/// What `web/bsp-worker.js` holds of this module.
#[wasm_bindgen]
pub struct BspWorker {
    driver: Rc<RefCell<Driver>>,
    _progress: Interval,
}

/// The driver of the loop: does its actions by the browser's means, and hands it what happens.
struct Driver {
    volunteer: VolunteerLoop,
    socket: Socket,
    timer: Timer,
    fetcher: Fetcher,
    page: Page,
    clock: SleepClock,
    /// What the loop asks for; kept for its memory.
    actions: Vec<Action>,
    /// For what comes back later.
    this: Weak<RefCell<Driver>>,
}

#[wasm_bindgen]
impl BspWorker {
    /// Begins with what the page has said in its message `join`, with its `capacity` as far as there is memory for
    /// it, and with the server's description of the run. `on_timeout` is to call [`BspWorker::on_timeout`].
    ///
    /// # Errors
    /// A value that is no message of the page.
    #[wasm_bindgen(constructor)]
    pub fn new(join: &JsValue, description: &str, on_timeout: Function) -> Result<BspWorker, JsError> {
        let ToBspWorker::Join(join) = read(join)? else {
            return Err(JsError::new("the first message has to be `join`"));
        };
        let settings = Settings {
            ml_modules: join.capacity,
            active: join.workers,
            cpu_percent: join.cpu_percent,
            is_paused: join.is_paused,
            seed: js_sys::Math::random().to_bits(),
            vain_starts: join.vain_starts,
            restarts_here: false,
        };
        let scope: DedicatedWorkerGlobalScope = js_sys::global().unchecked_into();
        let driver = Rc::new_cyclic(|this: &Weak<RefCell<Driver>>| {
            let on_socket = with(this, Driver::on_socket);
            RefCell::new(Driver {
                volunteer: VolunteerLoop::new(settings),
                socket: Socket::new(&scope.location().href(), on_socket),
                timer: Timer::new(&scope, on_timeout),
                fetcher: Fetcher::new(&scope, description),
                page: Page::new(&scope),
                clock: SleepClock::default(),
                actions: Vec::new(),
                this: Weak::clone(this),
            })
        });
        let tell_progress = with(&Rc::downgrade(&driver), |driver, ()| driver.tell_progress());
        let progress = Interval::new(&scope, PROGRESS_EVERY_MS, move || tell_progress(()));
        driver
            .borrow_mut()
            .drive(|volunteer, _, actions| volunteer.start(actions));
        Ok(BspWorker {
            driver,
            _progress: progress,
        })
    }

    /// The page has said something.
    ///
    /// # Errors
    /// A value that is no message of the page.
    #[wasm_bindgen(js_name = onMessage)]
    pub fn on_message(&self, message: &JsValue) -> Result<(), JsError> {
        let message = read(message)?;
        self.driver.borrow_mut().drive(|volunteer, now, actions| match message {
            ToBspWorker::Workers { workers } => volunteer.set_active_ml_modules(now, workers, actions),
            ToBspWorker::CpuPercent { cpu_percent } => volunteer.set_cpu_percent(now, cpu_percent, actions),
            ToBspWorker::Pause => volunteer.pause(now, actions),
            ToBspWorker::Resume => volunteer.resume(now, actions),
            ToBspWorker::Closing => volunteer.on_closing(now, actions),
            ToBspWorker::Thawed => volunteer.on_timeout(now, actions),
            ToBspWorker::Leave => volunteer.leave(now, actions),
            // These come as calls of their own, the one before there is a module, the other without taking memory.
            ToBspWorker::Join(_) | ToBspWorker::Died { .. } => {}
        });
        Ok(())
    }

    /// The ML worker of this ML module has raised an error event, and was terminated.
    #[wasm_bindgen(js_name = onMlModuleDied)]
    pub fn on_ml_module_died(&self, number: usize) {
        let mut driver = self.driver.borrow_mut();
        driver.page.take_no_more_memory();
        driver.drive(|volunteer, now, actions| volunteer.on_ml_module_died(now, number, actions));
    }

    /// The timer has run out.
    #[wasm_bindgen(js_name = onTimeout)]
    pub fn on_timeout(&self) {
        self.driver
            .borrow_mut()
            .drive(|volunteer, now, actions| volunteer.on_timeout(now, actions));
    }
}

/// A callback that reaches the driver while there is one.
fn with<T: 'static>(this: &Weak<RefCell<Driver>>, callback: fn(&mut Driver, T)) -> impl Fn(T) + Clone + 'static {
    let this = Weak::clone(this);
    move |event| {
        if let Some(driver) = this.upgrade() {
            callback(&mut driver.borrow_mut(), event);
        }
    }
}

impl Driver {
    /// Hands an event to the loop, does what it asks for, and sets its timer.
    fn drive(&mut self, event: impl FnOnce(&mut VolunteerLoop, bsp::time::Time, &mut Vec<Action>)) {
        let mut actions = std::mem::take(&mut self.actions);
        let now = clock::now_awake_or_asleep(&mut self.clock);
        event(&mut self.volunteer, now, &mut actions);
        for action in actions.drain(..) {
            self.act(action);
        }
        self.actions = actions;
        let now = clock::now_awake_or_asleep(&mut self.clock);
        self.timer
            .set(self.volunteer.next_timeout(now).map(|due| due.since(now)));
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Fetch(resource) => self.fetch(resource),
            Action::Connect { max_frame_bytes } => self.socket.connect(max_frame_bytes),
            Action::Send(frame) => self.socket.send(&frame),
            Action::SendContribution { sequence } => {
                if let Some(frame) = self.volunteer.contribution_frame(sequence) {
                    self.socket.send(frame);
                }
            }
            Action::Disconnect => self.socket.disconnect(),
            Action::StartMlModule { number, ml_module } => self.page.post(&FromBspWorker::Spawn {
                ml_module: number,
                address: ml_worker::into_shared(ml_module),
            }),
            Action::Tell(told) => {
                if told.state.is_end() {
                    // What was finished and accepted last is counted, too.
                    self.tell_progress();
                }
                self.page.tell(&told);
            }
            Action::Log(level, line) => log(level, &line),
            // The page has been told; it ends this worker, and starts another where one is to follow.
            Action::End(_) => {}
        }
    }

    fn on_socket(&mut self, event: SocketEvent) {
        self.drive(|volunteer, now, actions| match event {
            SocketEvent::Opened => volunteer.on_open(now, actions),
            SocketEvent::Closed => volunteer.on_closed(now, actions),
            SocketEvent::Frame(frame) => volunteer.on_frame(now, &frame, actions),
        });
    }

    fn fetch(&self, resource: Resource) {
        let (fetching, this) = (self.fetcher.fetch(&resource), Weak::clone(&self.this));
        spawn_local(async move {
            let outcome = fetching.await;
            let Some(driver) = this.upgrade() else { return };
            driver.borrow_mut().drive(|volunteer, now, actions| {
                let outcome = outcome.as_deref().map_err(Clone::clone);
                volunteer.on_fetched(now, &resource, outcome, actions);
            });
        });
    }

    fn tell_progress(&mut self) {
        if let Some(progress) = self
            .volunteer
            .measure_progress(clock::now_awake_or_asleep(&mut self.clock))
        {
            self.page.post(&FromBspWorker::Progress(progress));
        }
    }
}
