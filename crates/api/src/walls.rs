//! Forbidden calls: what a confined process makes and reports to prove that its walls stand.
//!
//! Some walls do not show in `/proc` (a Landlock layer); all of them are proved by being met. A report is the word of
//! the process itself; whoever reads it holds it against the list of what that process promised, so that a call left
//! out is no proof.

use serde::{Deserialize, Serialize};

/// One call that a wall forbids, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Forbidden {
    /// The wall: `landlock`, `seccomp`, `sockets`, `uid`.
    pub wall: String,
    /// The call, in words.
    pub call: String,
    /// The error that the wall gives, as a number of `errno`.
    pub promised: i32,
    /// The error that came; none when the call went through.
    pub errno: Option<i32>,
}

impl Forbidden {
    /// Whether the wall held: the call was refused, and by this wall's own error, not by one that anything else gives.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.errno == Some(self.promised)
    }
}

/// What one process proved: the calls, made on each thread that serves. Of several threads the worst counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Proof {
    /// Threads that made the calls.
    pub threads: u32,
    /// The calls.
    pub calls: Vec<Forbidden>,
}

impl Proof {
    /// Counts one more thread's calls in. A call that did not hold there does not hold; nor does one that this thread
    /// did not make while another did.
    pub fn add(&mut self, calls: Vec<Forbidden>) {
        self.threads += 1;
        if self.threads == 1 {
            self.calls = calls;
            return;
        }
        self.calls.retain(|ours| calls.iter().any(|call| call.wall == ours.wall && call.call == ours.call));
        for call in calls.into_iter().filter(|call| !call.holds()) {
            match self.calls.iter_mut().find(|ours| ours.wall == call.wall && ours.call == call.call) {
                Some(ours) => *ours = call,
                None => self.calls.push(call),
            }
        }
    }
}

/// Makes a process's forbidden calls on the calling thread. Given to a process by whoever confined it.
pub type Prove = fn() -> Vec<Forbidden>;

/// `GET /api/walls`: the proof of each confined process that could be asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Walls {
    /// The server's own.
    pub server: Proof,
    /// The gateway's; none when it is not connected or does not answer.
    pub gateway: Option<Proof>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(call: &str, errno: Option<i32>) -> Forbidden {
        Forbidden { wall: "landlock".into(), call: call.into(), promised: 13, errno }
    }

    #[test]
    fn a_wall_holds_by_its_own_error_only() {
        assert!(call("a", Some(13)).holds());
        assert!(!call("a", Some(2)).holds());
        assert!(!call("a", None).holds());
    }

    #[test]
    fn the_worst_of_several_threads_counts_and_a_call_that_one_left_out_is_not_made() {
        let mut proof = Proof::default();
        proof.add(vec![call("a", Some(13)), call("b", Some(13)), call("c", Some(13))]);
        proof.add(vec![call("a", None), call("b", Some(13))]);
        proof.add(vec![call("a", Some(13)), call("b", Some(13))]);
        assert_eq!(proof, Proof { threads: 3, calls: vec![call("a", None), call("b", Some(13))] });
    }
}
