//! Routes: the one place where a path meets a handler, and the list of all of them.
//!
//! This module alone may call axum's own `route`, `merge` and `fallback` (`clippy.toml` refuses them elsewhere),
//! so that a route is in the list and has a guard, or does not exist.

use crate::app::App;
use crate::fault::Fault;
use crate::guard::FirstGuard;
use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodFilter, on};
use http::Method;
use policy::access::GuardKind;

/// One route as it stands in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// HTTP method.
    pub method: Method,
    /// Path with `{parameters}`.
    pub path: &'static str,
    /// Who may call it.
    pub guard: GuardKind,
    /// One sentence.
    pub summary: &'static str,
    /// Name of the schema of its body, when it takes one.
    pub takes: Option<&'static str>,
    /// Name of the schema of its answer, when it is JSON; `Name[]` for a list.
    pub answers: Option<&'static str>,
}

/// Routes being gathered.
#[derive(Default)]
pub struct Routes {
    router: Router<App>,
    list: Vec<Route>,
}

#[allow(clippy::disallowed_methods, reason = "the one place where they may be called")]
impl Routes {
    /// Adds a route. Its handler's first argument is its guard:
    ///
    /// ```
    /// # use {axum::extract::State, http::Method, server::{app::App, guard::{Scoped, right::RunsRead}, routes::Routes}};
    /// async fn list(_: Scoped<RunsRead>, State(_): State<App>) {}
    /// let routes = Routes::default().add(Method::GET, "/list", "A list.", list);
    /// assert_eq!(routes.list()[0].guard.to_string(), "scope runs.read");
    /// ```
    ///
    /// A handler without one does not compile, nor does one whose guard stands behind something else:
    ///
    /// ```compile_fail,E0277
    /// # use {axum::extract::State, http::Method, server::{app::App, guard::{Scoped, right::RunsRead}, routes::Routes}};
    /// async fn list(State(_): State<App>) {}
    /// let routes = Routes::default().add(Method::GET, "/list", "A list.", list);
    /// ```
    /// ```compile_fail,E0277
    /// # use {axum::extract::State, http::Method, server::{app::App, guard::{Scoped, right::RunsRead}, routes::Routes}};
    /// async fn list(State(_): State<App>, _: Scoped<RunsRead>) {}
    /// let routes = Routes::default().add(Method::GET, "/list", "A list.", list);
    /// ```
    /// ```compile_fail,E0277
    /// # use {axum::extract::State, http::Method, server::{app::App, guard::{Scoped, right::RunsRead}, routes::Routes}};
    /// async fn list() {}
    /// let routes = Routes::default().add(Method::GET, "/list", "A list.", list);
    /// ```
    ///
    /// # Panics
    /// For a method that axum does not route; this is found by every test, for all routes are added at start.
    #[must_use]
    pub fn add<H, T>(mut self, method: Method, path: &'static str, summary: &'static str, handler: H) -> Self
    where
        H: Handler<T, App>,
        T: FirstGuard + 'static,
    {
        let filter = MethodFilter::try_from(method.clone()).expect("a method that axum routes");
        self.router = self.router.route(path, on(filter, handler));
        self.list.push(Route { method, path, guard: T::KIND, summary, takes: None, answers: None });
        self
    }

    /// Says which schema the body of the route added last has.
    #[must_use]
    pub fn takes(mut self, schema: &'static str) -> Self {
        if let Some(last) = self.list.last_mut() {
            last.takes = Some(schema);
        }
        self
    }

    /// Says which schema the answer of the route added last has.
    #[must_use]
    pub fn answers(mut self, schema: &'static str) -> Self {
        if let Some(last) = self.list.last_mut() {
            last.answers = Some(schema);
        }
        self
    }

    /// These routes and those.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.router = self.router.merge(other.router);
        self.list.extend(other.list);
        self
    }

    /// The list, by path and method.
    #[must_use]
    pub fn list(&self) -> Vec<Route> {
        let mut list = self.list.clone();
        list.sort_by(|a, b| (a.path, a.method.as_str()).cmp(&(b.path, b.method.as_str())));
        list
    }

    /// The router; every other path is answered 404, every other method 405.
    pub fn into_router(self) -> Router<App> {
        self.router
            .fallback(|| async {
                Fault::missing(
                    "path.unknown",
                    "There is nothing at this path: it is mistyped, or what it led to is gone.",
                )
            })
            .method_not_allowed_fallback(|| async {
                let message = "What is at this path is not asked for in this way (by this method).";
                Fault::new(http::StatusCode::METHOD_NOT_ALLOWED, "method.unknown", message)
            })
    }
}

/// All routes of the server.
#[must_use]
pub fn all() -> Routes {
    crate::http_api::routes().and(crate::console::routes())
}

/// The list of routes and guards as a Markdown table, for `docs/generated/routes.md`.
#[must_use]
pub fn inventory() -> String {
    let mut out = String::from(
        "# Routes\n\nGenerated from `server::inventory`; do not edit.\n\n| method | path | guard | what it does |\n|---|---|---|---|\n",
    );
    for route in all().list() {
        out += &format!("| {} | `{}` | {} | {} |\n", route.method, route.path, route.guard, route.summary);
    }
    out
}
