//! For whom a proxy speaks.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Who asks: the peer itself, or, if that is a trusted proxy, the last of those it
/// names that is not trusted. Everything before that one may have been made up by
/// whoever sent it; what cannot be read leaves it at the last that could.
pub(super) fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: IpAddr| {
        let address = address.to_canonical();
        trusted.iter().any(|network| network.contains(&address))
    };
    let mut client = peer;
    let lines: Vec<_> = headers.get_all(X_FORWARDED_FOR).iter().collect();
    let named = lines.iter().rev().flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    for part in named {
        if !is_trusted(client) {
            break;
        }
        let Some(address) = std::str::from_utf8(part).ok().and_then(|text| parse(text.trim())) else { break };
        client = address;
    }
    client
}

/// An address, with a port or without, as proxies write it.
fn parse(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse().ok().map(|address: SocketAddr| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(peer: &str, lines: &[&str]) -> String {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "2001:db8:1::/48".parse().unwrap()];
        let headers = lines.iter().map(|line| (X_FORWARDED_FOR, line.parse().unwrap())).collect();
        client(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn nobody_but_a_trusted_proxy_speaks_for_another() {
        for lines in
            [&["1.2.3.4"][..], &["10.0.0.1"], &["1.2.3.4, 10.0.0.1"], &["1.2.3.4", "10.0.0.1"], &[""]]
        {
            assert_eq!(asked("192.0.2.1", lines), "192.0.2.1", "{lines:?}");
        }
    }

    #[test]
    fn behind_trusted_proxies_the_last_that_is_not_trusted_asks() {
        for (lines, expected) in [
            (&["192.0.2.1"][..], "192.0.2.1"),
            (&["9.9.9.9, 192.0.2.1"], "192.0.2.1"),
            (&["9.9.9.9, 192.0.2.1, 10.1.1.1,10.2.2.2"], "192.0.2.1"),
            (&["9.9.9.9", "192.0.2.1", "10.1.1.1"], "192.0.2.1"),
            (&["192.0.2.1:4711"], "192.0.2.1"),
            (&["[2001:db8::1]:4711"], "2001:db8::1"),
            (&["[2001:db8::1]"], "2001:db8::1"),
            (&["192.0.2.1, 2001:db8:1::7"], "192.0.2.1"),
            // None but the proxy itself.
            (&[], "10.0.0.9"),
            (&[""], "10.0.0.9"),
            (&["unknown"], "10.0.0.9"),
            (&["192.0.2.1, _hidden"], "10.0.0.9"),
            (&["192.0.2.1, nonsense, 10.1.1.1"], "10.1.1.1"),
            (&["10.3.3.3, 10.1.1.1"], "10.3.3.3"),
        ] {
            assert_eq!(asked("10.0.0.9", lines), expected, "{lines:?}");
            assert_eq!(asked("::ffff:10.0.0.9", lines).replace("::ffff:", ""), expected, "{lines:?}");
        }
    }
}
