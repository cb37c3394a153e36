//! `/api/scrub`: a text goes in and comes out scrubbed, as it arrives.

use crate::app::App;
use crate::fault::Fault;
use crate::guard::Internal;
use crate::routes::Routes;
use axum::body::{Body, BodyDataStream};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use http::{Method, header};

/// Over the home's own socket only: whoever may ask can find out whether a guess is one of the secrets, and whoever has
/// that socket could read them all.
pub fn routes() -> Routes {
    let what = "Scrub a text of any length: what goes in comes out as it arrives, without secrets and credentials.";
    Routes::default().add(Method::POST, "/api/scrub", what, scrub)
}

/// A text on its way through.
struct Through {
    body: BodyDataStream,
    stream: scrub::Stream,
}

async fn scrub(_: Internal, State(app): State<App>, body: Body) -> Result<Response, Fault> {
    let through = Through { body: body.into_data_stream(), stream: app.scrubber().stream() };
    // At most one piece and what the stream holds back is here at a time: nothing is read before the last is taken.
    let pieces = futures_util::stream::try_unfold(Some(through), |through| async {
        let Some(mut through) = through else { return Ok::<_, axum::Error>(None) };
        loop {
            match through.body.next().await {
                Some(piece) => {
                    let out = through.stream.push(&piece?);
                    if !out.is_empty() {
                        return Ok(Some((out, Some(through))));
                    }
                }
                None => return Ok(Some((through.stream.finish(), None))),
            }
        }
    });
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], Body::from_stream(pieces)).into_response())
}
