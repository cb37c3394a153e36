//! A box that exists: its orders to the helper, its readings, its end.

use super::{BoxError, ChangeCount, Ended, LiveBox, host};
use crate::held::{self, Halves, Held};
use crate::helper::{Answer, Order};
use crate::process::Process;
use crate::{group, packet, read_back};
use api::inbox::{Counts, Hello};
use model::event::Reading;
use model::profile::Engine;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

impl LiveBox {
    /// The uid of everything in the box.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.spec.uid
    }
    /// The name of the box, and of its control group.
    #[must_use]
    pub fn box_id(&self) -> &model::BoxId {
        &self.spec.box_id
    }
    /// Process 1 of the box, as the host counts.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.first.as_ref().map_or(0, |first| first.number())
    }
    /// The helper, as the host counts.
    #[must_use]
    pub fn helper_pid(&self) -> u32 {
        self.helper.id()
    }

    /// Puts a run's worktree into the box; once.
    pub(crate) fn claim(&mut self, lower: Option<&Path>) -> Result<(), BoxError> {
        self.lower = lower.map(Path::to_path_buf);
        self.done(&Order::Claim { lower: self.lower.clone() }, &[])
    }

    /// Lets process 1 go on: it takes its walls, says hello and waits for its task.
    ///
    /// # Errors
    /// [`BoxError::Lost`] when it is gone.
    pub fn start(&mut self) -> Result<(), BoxError> {
        let go = self.go.take().ok_or_else(|| BoxError::Helper("the box is at work already".into()))?;
        match rustix::io::write(&go, &[api::inbox::GO]) {
            Ok(_) => Ok(()),
            Err(rustix::io::Errno::PIPE) => Err(BoxError::Lost("its process 1 ended before it had a run".into())),
            Err(e) => Err(host("let the box's process 1 go on")(e.into())),
        }
    }

    /// Reads back what the kernel says of the box, line by line against the promise. Every line must hold.
    #[must_use]
    pub fn read_back(&self, hello: &Hello) -> Vec<Reading> {
        let Some(first) = &self.first else { return Vec::new() };
        let mut lines = read_back::all(&self.spec, first, &self.group, hello);
        lines.extend(self.readings.iter().cloned());
        lines
    }

    /// What reads the same again, on any thread and for as long as the box lives; none once its process 1 is gone.
    #[must_use]
    pub fn watch(&self, hello: &Hello) -> Box<dyn Fn() -> Option<Vec<Reading>> + Send + Sync> {
        let (spec, first, group, hello) = (self.spec.clone(), self.first.clone(), self.group.clone(), hello.clone());
        Box::new(move || {
            let lines = read_back::all(&spec, first.as_ref()?, &group, &hello);
            // Afterwards: what was read of a process that was just going says nothing.
            first.as_ref().filter(|first| !first.is_gone()).map(|_| lines)
        })
    }

    /// Reads how often the box met which limit, on any thread and for as long as it lives.
    #[must_use]
    pub fn gauge(&self) -> Box<dyn Fn() -> Counts + Send + Sync> {
        let group = self.group.clone();
        Box::new(move || group::counts(&group))
    }

    /// Counts what the box has the kernel hold that is counted for nobody, on any thread and for as long as it lives: all of it,
    /// or, where it is told `false`, sockets and what is on them alone.
    #[must_use]
    pub fn holds(&self) -> Box<dyn Fn(bool) -> Held + Send + Sync> {
        let (group, first) = (self.group.clone(), self.first.clone());
        // By its handle, because this may live longer than the helper.
        let helper = Process::open(self.helper_pid()).ok();
        // Without links, which would lead out of the helper's mounts. What is not found is not opened, and counted so.
        let dir = self.spec.host.dir.canonicalize().unwrap_or_default();
        let (upper, lower) = (dir.join("stage/disk/up"), self.lower.clone());
        let upper = upper.strip_prefix("/").unwrap_or(&upper).to_path_buf();
        Box::new(move |whole| {
            let Some(first) = &first else { return Held::default() };
            let upper = helper.as_ref().map_or_else(PathBuf::new, |helper| helper.file("root").join(&upper));
            held::look(&group, first, &Halves { lower: lower.clone(), upper }, whole)
        })
    }

    /// Whether its helper has ended, which it does by itself only in [`LiveBox::end`]. The image stays.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
        // A process that ends hangs up before it can be seen to have ended.
        let hung_up = self.control.as_ref().is_none_or(|control| {
            let mut one = [PollFd::new(control, PollFlags::empty())];
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            poll(&mut one, Some(&now)).is_ok() && one[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
        });
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        let Some(pid) = Pid::from_raw(self.helper.id().cast_signed()) else { return true };
        hung_up || self.over.is_some() || matches!(waitid(WaitId::Pid(pid), look), Ok(Some(_)))
    }

    /// Whether its process 1 is gone, and with it every other process of the box.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.first.as_ref().is_none_or(|first| first.is_gone())
    }

    /// Stops every process of the box where it stands: none gets any processor time until [`LiveBox::resume`].
    ///
    /// # Errors
    /// [`BoxError`].
    pub fn pause(&mut self) -> Result<(), BoxError> {
        self.done(&Order::Pause, &[])
    }

    /// Lets a paused box go on.
    ///
    /// # Errors
    /// [`BoxError`].
    pub fn resume(&mut self) -> Result<(), BoxError> {
        self.done(&Order::Resume, &[])
    }

    /// Ends every process of the box; its worktree stays mounted for [`LiveBox::write_changes`].
    ///
    /// # Errors
    /// [`BoxError::HelperGone`], and then the box is gone with it.
    pub fn kill(&mut self) -> Result<(), BoxError> {
        self.done(&Order::Kill, &[])
    }

    /// After [`LiveBox::kill`]: streams what the run changed ([`api::changes`]) into `out`; returns when all is written.
    ///
    /// # Errors
    /// [`BoxError::Helper`] when the worktree cannot be read or `out` broke.
    pub fn write_changes(&mut self, out: OwnedFd) -> Result<ChangeCount, BoxError> {
        let order = serde_json::to_vec(&Order::Changes).map_err(|e| BoxError::Helper(e.to_string()))?;
        let answer = self.order(&order, &[out.as_fd()]);
        drop(out);
        match answer? {
            (Answer::Changed { count }, _) => Ok(count),
            (Answer::Failed { what }, _) => Err(BoxError::Helper(what)),
            _ => Err(BoxError::HelperGone),
        }
    }

    /// Ends the box and everything it held: processes, mounts, loop device, cgroup. The image stays. So it does when
    /// the helper was killed; only what it knew of the box's end is lost then.
    ///
    /// # Errors
    /// [`BoxError`]; [`BoxError::HelperGone`] when the helper was killed; [`BoxError::Host`] when something is left,
    /// which the operator's next start reaps.
    pub fn end(mut self) -> Result<Ended, BoxError> {
        let order = serde_json::to_vec(&Order::End).map_err(|e| BoxError::Helper(e.to_string()))?;
        let answer = self.order(&order, &[]);
        self.finish()?;
        match answer? {
            (Answer::Over { ended }, _) => Ok(ended),
            (Answer::Failed { what }, _) => Err(BoxError::Helper(what)),
            _ => Err(BoxError::HelperGone),
        }
    }

    /// Waits until the helper has answered or has ended. The end of the socket is not enough: what a killed helper had
    /// forked holds it open.
    fn answer_or_end(&self, control: BorrowedFd<'_>) -> Result<(), BoxError> {
        use rustix::event::{PollFd, PollFlags, poll};
        use rustix::process::{Pid, PidfdFlags, pidfd_open};
        let pid = Pid::from_raw(self.helper.id().cast_signed()).ok_or(BoxError::HelperGone)?;
        let life = pidfd_open(pid, PidfdFlags::empty()).map_err(|_| BoxError::HelperGone)?;
        loop {
            let mut both = [PollFd::from_borrowed_fd(control, PollFlags::IN), PollFd::new(&life, PollFlags::IN)];
            match poll(&mut both, None) {
                Ok(_) if !both[0].revents().is_empty() => return Ok(()),
                // It may have answered with its last breath.
                Ok(_) if !both[1].revents().is_empty() => {
                    let mut one = [PollFd::from_borrowed_fd(control, PollFlags::IN)];
                    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
                    let answered = poll(&mut one, Some(&now)).is_ok_and(|ready| ready > 0);
                    return if answered { Ok(()) } else { Err(BoxError::HelperGone) };
                }
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(host("wait for the box's helper")(e.into())),
            }
        }
    }

    /// Lets the helper end, and ends what it could not end any more because it was killed: what it had forked is in
    /// its process group until it is in the box's control group. Mounts and loop device go with the last of them.
    pub(super) fn finish(&mut self) -> Result<ExitStatus, BoxError> {
        use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
        self.control = None;
        if let Some(status) = self.over {
            return Ok(status);
        }
        if let Some(pid) = Pid::from_raw(self.helper.id().cast_signed()) {
            // Not collected yet: until then nobody else can have its number.
            let ended = loop {
                match waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
                    Err(rustix::io::Errno::INTR) => {}
                    other => break other,
                }
            };
            ended.map_err(|e| host("wait for the box's helper")(e.into()))?;
            match kill_process_group(pid, Signal::KILL) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(e) => return Err(host("end what the box's helper left")(e.into())),
            }
        }
        let status = self.helper.wait().map_err(host("wait for the box's helper"))?;
        self.over = Some(status);
        if !status.success() {
            let name = self.spec.box_id.to_string();
            group::reap_one(&self.spec.host.cgroup_parent, &name).map_err(host(format!("end the box {name}")))?;
            if self.spec.engine == Engine::Docker {
                let facts = &self.spec.host;
                crate::docker::reap(&facts.docker, &facts.dir, &facts.cgroup_parent, Some(&name))
                    .map_err(host(format!("take away what Docker still lists of the box {name}")))?;
                // The daemon may have been starting it just then, and go on with it.
                self.held.lost();
                group::reap_one(&facts.cgroup_parent, &name).map_err(host(format!("end the box {name}")))?;
            }
        }
        Ok(status)
    }

    fn done(&mut self, order: &Order, fds: &[BorrowedFd<'_>]) -> Result<(), BoxError> {
        let order = serde_json::to_vec(order).map_err(|e| BoxError::Helper(e.to_string()))?;
        match self.order(&order, fds)? {
            (Answer::Did, _) => Ok(()),
            (Answer::Failed { what }, _) => Err(BoxError::Helper(what)),
            (Answer::Lost { what }, _) => Err(BoxError::Lost(what)),
            _ => Err(BoxError::HelperGone),
        }
    }

    pub(super) fn order(&mut self, body: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(Answer, Vec<OwnedFd>), BoxError> {
        let control = self.control.as_ref().ok_or(BoxError::HelperGone)?;
        packet::send(control.as_fd(), body, fds).map_err(|_| BoxError::HelperGone)?;
        self.answer_or_end(control.as_fd())?;
        let (said, fds) = packet::receive(control.as_fd()).map_err(|_| BoxError::HelperGone)?;
        if said.is_empty() {
            return Err(BoxError::HelperGone);
        }
        Ok((serde_json::from_slice(&said).map_err(|_| BoxError::HelperGone)?, fds))
    }
}

impl Drop for LiveBox {
    fn drop(&mut self) {
        // The end of the socket is the end of the box; the helper ends by itself and is only collected here.
        if let Err(e) = self.finish() {
            eprintln!("the helper of box {}: {e}", self.spec.box_id);
        }
    }
}
