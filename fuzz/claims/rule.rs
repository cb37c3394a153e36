//! What must hold of any table of what may leave, and any request that is judged by it.

use policy::egress::target::{self, Scheme};
use policy::egress::{Ask, Form, Kind, Law, Signs, Verdict, judge};

/// Holds of any table, in JSON, and any request. Whether the table is a right one.
pub fn holds(table: &str, method: &str, target: &str, header: (&str, &str)) -> bool {
    let Ok(table) = serde_json::from_str::<model::Egress>(table) else { return false };
    let Ok(law) = Law::of(&table) else { return false };
    let Ok(to) = target::absolute(target) else { return true };
    let form = if to.scheme == Scheme::Http { Form::Plain } else { Form::Intercepted };
    let signs = Signs::of([(header.0, header.1.as_bytes())]);
    let ask = Ask { form, method, host: &to.host, port: to.port, path: to.path, signs: &signs };
    if let Verdict::Allow(allowed) = judge(&law, &ask) {
        assert!(to.host.private().is_none() || allowed.internal.is_some(), "{target:?} by {table:?}");
        let read = matches!(allowed.kind, Kind::Read | Kind::Package);
        assert!(read || !table.write.is_empty(), "{method} {target:?} by {table:?}");
        assert!(!read || matches!(method, "GET" | "HEAD"), "{method} {target:?} by {table:?}");
    }
    true
}
