//! Attacks on the box, made by programs that are compiled and run in it, through `volary exec` as anyone would.
//!
//! Each attempt is really made; its errno is compared with that of the wall which must answer it, and each program
//! makes a few calls that must go through (`control-…`), so that a program that does nothing proves nothing.
//! Nothing here may hang: an attempt without an answer ends its program, which names it; commands have a limit, and waits
//! an end.
//!
//! Read [`support`] (how a program gets into the box), [`host_sockets`] (what of the host it dials), [`walls`] and [`musts`]
//! (what a call meets), [`calls`] (that each
//! row of the table of refused calls is met), [`images`] (that a box of an image is no other), [`limits`] (what floods
//! meet), [`kernel_memory`] (what takes memory that no limit counts) and [`hidden_memory`] (the same by what one does not think of first), [`told`] (what is said of that), [`siblings`] (what commands of one agent meet), [`side_by_side`] (what two
//! boxes meet), [`life`] (what outlives a command), [`result`] (what a worktree can smuggle into a repository), [`values`] (who
//! reads what one command is given).

mod calls;
mod hidden_memory;
mod host_sockets;
mod images;
mod kernel_memory;
mod life;
mod limits;
mod musts;
mod result;
mod siblings;
mod side_by_side;
mod support;
mod told;
mod values;
mod walls;
