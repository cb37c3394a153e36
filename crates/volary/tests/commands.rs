//! What a person types, and what it does to their machine: through the real binary and real boxes.
//!
//! Read `running` (`run`, `cancel`, Ctrl-C), `repository` (what stays as it was), `executing` (`exec`), `looking`
//! (what shows how things stand), `scrubbing` (`scrub`), `leasing` (`exec --lease`), `texts` (secrets of
//! several lines), `profiles`, then `wrong` (what cannot be done as it was typed).

#[path = "commands/executing.rs"]
mod executing;
#[path = "commands/leasing.rs"]
mod leasing;
#[path = "commands/looking.rs"]
mod looking;
#[path = "commands/profiles.rs"]
mod profiles;
#[path = "commands/repository.rs"]
mod repository;
#[path = "commands/running.rs"]
mod running;
#[path = "commands/scrubbing.rs"]
mod scrubbing;
mod shared;
#[path = "commands/texts.rs"]
mod texts;
#[path = "commands/wrong.rs"]
mod wrong;
