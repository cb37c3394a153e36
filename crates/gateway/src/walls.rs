//! The proof that this process's walls stand: the calls that they forbid, made on the thread that serves.
//!
//! Which calls those are is known to whoever confined the process; nothing here chooses or judges them.

use crate::server::Server;
use api::grants::FromGateway;
use api::walls::{Proof, Prove};

/// Makes the calls and reports them. The runtime has one thread, which is the one that runs this; what it starts
/// beside itself (look-ups, judges) inherits its walls and cannot lose them.
pub(crate) fn report(server: &Server, id: u64, prove: Prove) {
    let mut proof = Proof::default();
    proof.add(prove());
    server.post(FromGateway::Walls { id, proof });
}
