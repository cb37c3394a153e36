//! What whoever sent a refused request can change about it to be let through, by the rule that refused it.
//!
//! One table for all rules, wherever they are found: whoever is told "leave it out" must not be told in the same breath
//! that no other way is open. A rule that is not in it is one that nobody lifts by sending something else.

/// One sentence that says how to send it instead; none where no change of the request helps.
///
/// ```
/// use policy::egress::next;
/// assert_eq!(next::of("read.body"), Some("Send it again without a body."));
/// assert_eq!(next::of("host.metadata"), None);
/// ```
#[must_use]
pub fn of(rule: &str) -> Option<&'static str> {
    Some(match rule {
        "host.empty" | "host.long" | "host.character" | "host.label" => {
            "Send it again with the host's name as it stands in DNS."
        }
        "host.userinfo" => "Send it again without a user name and password before the host.",
        "host.percent" => "Send it again with the host written plainly.",
        "host.port" => "Send it again as host:port, or with the IPv6 address in brackets.",
        "host.number" => "Send it again with the address as four decimal numbers, or with the host's name.",
        "host.address" => "Send it again with the IPv6 address written as in [2001:db8::1].",
        "host.differs" => "Send it again with the same host in the target, in the Host header and in TLS.",
        "target.form" => "Send it again with an absolute URL as the target.",
        "target.scheme" => "Send it again over https or http.",
        "target.path" => {
            "Send it again with a path that begins with a slash and is percent-encoded, without a fragment."
        }
        "target.port" => "Send it again with such a port.",
        "target.long" => "Send it again with a target of at most 16 KiB.",
        "request.malformed" => "Correct that and send it again.",
        "method.unknown" => {
            "GET and HEAD read, and POST, PUT, PATCH and DELETE write where the profile has a row; a method is written in \
             capitals."
        }
        "method.override" => "Send it again without that header or parameter, by the method that is meant.",
        "read.body" => "Send it again without a body.",
        "read.cookie" => "Send it again without a cookie.",
        "handle.misplaced" => {
            "Send it again with the handle in one header alone, such as `Authorization: Bearer $VOLARY_HANDLE`, or as the \
             user of basic auth without a password."
        }
        "value.misplaced" => {
            "Send it again without the value, and with a handle in one header where the profile has a row for it."
        }
        "connect.credential" => {
            "Send the CONNECT without it; a handle goes into the request inside, where the profile has a row for it."
        }
        "handle.lease" => {
            "Send it again from a command that is started under a lease of the capability, with the VOLARY_HANDLE that it has then: \
             an agent asks for one by the tool `lease`, a person by `volary exec --lease`."
        }
        "connect.inside" => "Send the request itself over this connection, without another CONNECT.",
        "write.plain" => "Send it again over https.",
        "write.path" => {
            "Send it again with a path that is written plainly, for instance with a number in the place of a name that has \
             a slash in it. A GET or HEAD without a credential may have such a path."
        }
        "upgrade.unknown" => "Ask for a WebSocket over HTTP/1.1, if the host has one there.",
        "inject.name" => "Send it again with the host's name in TLS (SNI).",
        _ => return None,
    })
}
