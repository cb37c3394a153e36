//! The console: pages for people, rendered here, live by server-sent events.
//!
//! Its routes go through the same guarded builder as the API's, and its changes through the same functions of the
//! application. A page is whole without script; our one script only applies pieces that were rendered here, by
//! the same functions as the page.
//!
//! Everything that a box wrote passes [`text::shown`], which escapes it and makes visible what would steer a page
//! or reorder what is read.
//!
//! Read [`page`] (what every page has), [`form`], [`list`], [`run`], then [`sheet`] (pieces of HTML and where
//! they go), [`transcript`] (entries to pieces), [`blocks`] (what a piece looks like), [`live`].

mod assets;
mod blocks;
mod connections;
#[cfg(test)]
mod contrast;
mod denials;
mod diff;
mod form;
mod leases;
mod list;
mod live;
mod page;
mod proposal;
mod run;
mod secrets;
mod sheet;
mod sign_in;
mod small;
mod start;
mod terminal;
mod text;
mod transcript;
mod words;

use crate::routes::Routes;
pub(crate) use page::Trouble;

/// The console's routes.
#[must_use]
pub fn routes() -> Routes {
    assets::routes()
        .and(sign_in::routes())
        .and(list::routes())
        .and(run::routes())
        .and(proposal::routes())
        .and(denials::routes())
        .and(start::routes())
        .and(live::routes())
        .and(small::routes())
        .and(secrets::routes())
        .and(connections::routes())
        .and(leases::routes())
}
