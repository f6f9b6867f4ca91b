//! Which addresses may be called.
//!
//! Why here and not where a URL is checked: a name can resolve to anything, and to something else a moment later. Only
//! the address that is about to be dialled says where the packets go, so that is what is decided on, for each
//! connection and for each redirect.
//!
//! Invariants:
//! - [`EgressPolicy::decide`] is pure: it resolves nothing and dials nothing.
//! - The deny list wins over all; an entry of the allow list wins over the mode.
//! - An IPv6 address that carries an IPv4 address is as forbidden as the address it carries.
//! - Link-local addresses, metadata services, multicast, unspecified, broadcast and reserved addresses are called only
//!   if the allow list names that one address.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::LazyLock;

use ipnet::{IpNet, Ipv4Net};

/// What may be called, beyond public addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EgressPolicy {
    /// What holds where no list says otherwise.
    pub mode: EgressMode,
    /// What may be called although the mode refuses it.
    pub allow: Vec<EgressRule>,
    /// What may not be called, whatever else is said.
    pub deny: Vec<EgressRule>,
}

/// What holds where no list says otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EgressMode {
    /// Private addresses for a host that stands literally in the definition; loopback for an address or `localhost`
    /// that does; neither for a host that came out of a template or a redirect.
    #[default]
    Default,
    /// Neither private addresses nor loopback: for definitions by people who are not trusted.
    PublicOnly,
}

/// An entry of the allow or the deny list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EgressRule {
    /// This address.
    Address(IpAddr),
    /// All addresses of this network: `10.0.0.0/8`.
    Network(IpNet),
    /// This host, in lower case, whatever it resolves to.
    Host(String),
    /// All hosts below a domain, in lower case, with the dot that begins it: `.example.org`.
    HostSuffix(String),
}

/// Text that is no entry of an allow or deny list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is {problem}; use an address (\"10.0.0.7\"), a network (\"10.0.0.0/8\"), a host (\"hooks.example.org\"), \
     or a leading dot for all hosts of a domain (\".example.org\")"
)]
pub struct EgressRuleError {
    text: String,
    problem: &'static str,
}

/// A call that the policy refuses. Its `Display` names host, address, range and the setting to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The address that would have been dialled.
    pub address: IpAddr,
    /// The host it belongs to, as the URL spells it.
    pub host: String,
    /// Why.
    pub reason: RefusalReason,
}

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefusalReason {
    /// The deny list has this entry.
    Denied(EgressRule),
    /// The address lies in a range that is never called unless it is named exactly.
    Never(AddressRange),
    /// A private or loopback address in [`EgressMode::PublicOnly`].
    NotPublic(AddressRange),
    /// A loopback address for a host that is neither an address nor `localhost` in the definition itself.
    Loopback(AddressRange),
    /// A private address for a host that does not stand in the definition itself.
    Private(AddressRange),
}

/// A range of addresses that is not simply public.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressRange {
    /// The range, such as `10.0.0.0/8`.
    pub network: IpNet,
    /// What an address in it is, such as `a private address`.
    pub name: &'static str,
    /// The IPv4 address that lies in it, where it is one that an IPv6 address carries.
    pub carried: Option<Ipv4Addr>,
}

impl EgressPolicy {
    /// Says whether this address may be dialled for this host.
    ///
    /// `host` is the host of the URL, an IPv6 address with or without brackets. `literal_host` says whether it stands
    /// literally in the definition, rather than coming out of a template or a redirect.
    pub fn decide(&self, address: IpAddr, host: &str, literal_host: bool) -> Result<(), Refusal> {
        // ::ffff:a.b.c.d is another spelling of a.b.c.d: the packets that leave are the same.
        let address = address.to_canonical();
        let plain_host = plain_host(host);
        let refuse = |reason| Err(Refusal { address, host: plain_host.to_owned(), reason });

        if let Some(rule) = self.deny.iter().find(|rule| rule.denies(address, plain_host)) {
            return refuse(RefusalReason::Denied(rule.clone()));
        }
        let (class, range) = classify(address);
        let Some(range) = range else { return Ok(()) };
        if class == Class::Never {
            return match self.allow.contains(&EgressRule::Address(address)) {
                true => Ok(()),
                false => refuse(RefusalReason::Never(range)),
            };
        }
        if self.allow.iter().any(|rule| rule.allows(address, plain_host)) {
            return Ok(());
        }
        match (self.mode, class) {
            (EgressMode::PublicOnly, _) => refuse(RefusalReason::NotPublic(range)),
            (EgressMode::Default, Class::Loopback) => {
                let names_loopback = plain_host.parse::<IpAddr>().is_ok() || is_localhost(plain_host);
                if literal_host && names_loopback { Ok(()) } else { refuse(RefusalReason::Loopback(range)) }
            }
            (EgressMode::Default, _) => {
                if literal_host {
                    Ok(())
                } else {
                    refuse(RefusalReason::Private(range))
                }
            }
        }
    }

    /// Why a request to this host would be refused, as far as that is known without a look-up: of an address, and of
    /// `localhost`. The rest is as of [`decide`](Self::decide).
    pub fn foretell(&self, host: &str, literal_host: bool) -> Option<Refusal> {
        let addresses = match plain_host(host).parse() {
            Ok(address) => vec![address],
            Err(_) if is_localhost(host) => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            Err(_) => return None,
        };
        // One that may be called is enough.
        let refusals = addresses.into_iter().map(|address| self.decide(address, host, literal_host).err());
        refusals.collect::<Option<Vec<_>>>()?.into_iter().next()
    }
}

fn is_localhost(host: &str) -> bool {
    host.trim_end_matches('.').eq_ignore_ascii_case("localhost")
}

impl EgressRule {
    fn allows(&self, address: IpAddr, host: &str) -> bool {
        match self {
            EgressRule::Address(named) => *named == address,
            EgressRule::Network(network) => network.contains(&address),
            EgressRule::Host(_) | EgressRule::HostSuffix(_) => self.names(host),
        }
    }

    /// Unlike an allowed network, a denied one reaches into IPv6 addresses that carry an IPv4 address.
    fn denies(&self, address: IpAddr, host: &str) -> bool {
        self.allows(address, host)
            || carried_addresses(address).any(|carried| self.allows(carried.into(), host))
    }

    fn names(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        match self {
            EgressRule::Address(_) | EgressRule::Network(_) => false,
            EgressRule::Host(named) => named.eq_ignore_ascii_case(host),
            EgressRule::HostSuffix(suffix) => host
                .len()
                .checked_sub(suffix.len())
                .filter(|rest| *rest > 0)
                .and_then(|rest| host.get(rest..))
                .is_some_and(|end| end.eq_ignore_ascii_case(suffix)),
        }
    }
}

impl FromStr for EgressRule {
    type Err = EgressRuleError;

    fn from_str(text: &str) -> Result<Self, EgressRuleError> {
        let refused = |problem| Err(EgressRuleError { text: text.chars().take(80).collect(), problem });
        let trimmed = text.trim();
        if let Ok(address) = plain_host(trimmed).parse::<IpAddr>() {
            return Ok(EgressRule::Address(address.to_canonical()));
        }
        if let Some((address, _)) = trimmed.split_once('/')
            && address.parse::<IpAddr>().is_ok()
        {
            let Ok(network) = trimmed.parse::<IpNet>() else { return refused("no network") };
            let network = canonical(network);
            if network.prefix_len() == network.max_prefix_len() {
                return Ok(EgressRule::Address(network.addr().to_canonical()));
            }
            return Ok(EgressRule::Network(network.trunc()));
        }
        let name = trimmed.strip_prefix('.').unwrap_or(trimmed);
        let name = name.strip_suffix('.').unwrap_or(name);
        if name.is_empty() {
            return refused("empty");
        }
        if name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            return refused("an incomplete address");
        }
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')) {
            return refused("no host name (no scheme, port or wildcard belongs here)");
        }
        let name = name.to_ascii_lowercase();
        Ok(match trimmed.starts_with('.') {
            true => EgressRule::HostSuffix(format!(".{name}")),
            false => EgressRule::Host(name),
        })
    }
}

/// A network of IPv4 addresses in the form of IPv6 (`::ffff:10.0.0.0/104`) as what it is: that is how addresses are looked
/// at.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(mapped) = network else { return network };
    let length = mapped.prefix_len().checked_sub(96);
    let v4 = mapped.addr().to_ipv4_mapped().zip(length);
    v4.and_then(|(address, length)| Ipv4Net::new(address, length).ok()).map_or(network, IpNet::V4)
}

impl fmt::Display for EgressRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EgressRule::Address(address) => address.fmt(f),
            EgressRule::Network(network) => network.fmt(f),
            EgressRule::Host(host) | EgressRule::HostSuffix(host) => f.write_str(host),
        }
    }
}

impl EgressMode {
    /// Every value.
    pub const ALL: &'static [EgressMode] = &[EgressMode::Default, EgressMode::PublicOnly];

    /// The word that settings use.
    pub fn as_str(self) -> &'static str {
        match self {
            EgressMode::Default => "default",
            EgressMode::PublicOnly => "public-only",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refusal { address, host, reason } = self;
        let is_literal = host.parse::<IpAddr>().is_ok();
        if is_literal {
            write!(f, "{address}")?;
        } else {
            write!(f, "{address} ({host:?})")?;
        }
        // A host in the allow list lifts the refusal for that host alone; for an address there is only the address.
        let entry = if is_literal { address.to_string() } else { host.clone() };
        match reason {
            RefusalReason::Denied(rule) => write!(f, " is refused by the entry \"{rule}\" of egress.deny"),
            RefusalReason::Never(range) => write!(
                f,
                " is {range}, which is never called by default; \
                 if you mean it, add \"{address}\" to egress.allow"
            ),
            RefusalReason::NotPublic(range) => write!(
                f,
                " is {range}, and egress.mode is \"public-only\"; if you mean it, add \"{entry}\" to egress.allow"
            ),
            RefusalReason::Loopback(range) => write!(
                f,
                " is {range}: it is called only for an address or \"localhost\" written in the webhook's URL; \
                 if you mean it, add \"{entry}\" to egress.allow"
            ),
            RefusalReason::Private(range) => write!(
                f,
                " is {range}: it is not called for a host that comes out of a template or a redirect; \
                 write the host into the webhook's URL, or add \"{entry}\" to egress.allow"
            ),
        }
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AddressRange { network, name, carried } = self;
        match carried {
            None => write!(f, "{name} ({network})"),
            Some(carried) => write!(f, "{name} ({network}, by the address {carried} that it carries)"),
        }
    }
}

/// From harmless to forbidden: of several that apply, the greatest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Public,
    Private,
    Loopback,
    Never,
}

/// The ranges that are not simply public; the first that holds an address says what it is. The documentation networks
/// are missing on purpose: nothing listens there, so nothing needs protection.
static RANGES: LazyLock<Vec<(IpNet, Class, &'static str)>> = LazyLock::new(|| {
    let metadata = "the address of a cloud's metadata service";
    [
        // Amazon, Google, Azure and most others; Alibaba; Azure's wire server; Oracle.
        ("169.254.169.254/32", Class::Never, metadata),
        ("100.100.100.200/32", Class::Never, metadata),
        ("168.63.129.16/32", Class::Never, metadata),
        ("192.0.0.192/32", Class::Never, metadata),
        // Amazon; Google; Oracle; Scaleway.
        ("fd00:ec2::/32", Class::Never, metadata),
        ("fd20:ce::254/128", Class::Never, metadata),
        ("fd00:c1::a9fe:a9fe/128", Class::Never, metadata),
        ("fd00:42::42/128", Class::Never, metadata),
        // RFC 6890 and the IANA special-purpose address registries.
        ("0.0.0.0/8", Class::Never, "the unspecified address"),
        ("169.254.0.0/16", Class::Never, "a link-local address"),
        ("224.0.0.0/4", Class::Never, "a multicast address"),
        ("255.255.255.255/32", Class::Never, "the broadcast address"),
        ("240.0.0.0/4", Class::Never, "a reserved address"),
        ("127.0.0.0/8", Class::Loopback, "a loopback address"),
        ("10.0.0.0/8", Class::Private, "a private address"),
        ("172.16.0.0/12", Class::Private, "a private address"),
        ("192.168.0.0/16", Class::Private, "a private address"),
        ("100.64.0.0/10", Class::Private, "an address of a carrier's network"),
        ("192.0.0.0/24", Class::Private, "an address set aside for protocols"),
        ("198.18.0.0/15", Class::Private, "an address set aside for benchmarks"),
        ("::/128", Class::Never, "the unspecified address"),
        ("::1/128", Class::Loopback, "a loopback address"),
        ("fe80::/10", Class::Never, "a link-local address"),
        ("ff00::/8", Class::Never, "a multicast address"),
        ("100::/64", Class::Never, "a discard-only address"),
        ("fec0::/10", Class::Private, "a site-local address"),
        ("fc00::/7", Class::Private, "a private address"),
        // RFC 8215: a translator of one's own, with an IPv4 address somewhere behind it.
        ("64:ff9b:1::/48", Class::Private, "an address of a local translator to IPv4"),
        ("5f00::/16", Class::Private, "an address of segment routing"),
    ]
    .map(|(network, class, name)| {
        (network.parse().expect("the table holds networks; a test reads it"), class, name)
    })
    .to_vec()
});

/// What an address is, the addresses that it carries taken into account; no range means public.
fn classify(address: IpAddr) -> (Class, Option<AddressRange>) {
    let mut worst = classify_plain(address);
    for carried in carried_addresses(address) {
        let (class, range) = classify_plain(carried.into());
        if class > worst.0 {
            worst = (class, range.map(|range| AddressRange { carried: Some(carried), ..range }));
        }
    }
    worst
}

fn classify_plain(address: IpAddr) -> (Class, Option<AddressRange>) {
    let range = RANGES.iter().find(|(network, ..)| network.contains(&address));
    match range {
        Some((network, class, name)) => {
            (*class, Some(AddressRange { network: *network, name, carried: None }))
        }
        None => (Class::Public, None),
    }
}

/// The IPv4 addresses that an IPv6 address carries, by the ways of embedding that some router or host acts upon.
fn carried_addresses(address: IpAddr) -> impl Iterator<Item = Ipv4Addr> {
    let (first, second) = match address {
        IpAddr::V4(_) => (None, None),
        IpAddr::V6(v6) => carried_by(v6),
    };
    first.into_iter().chain(second)
}

fn carried_by(address: Ipv6Addr) -> (Option<Ipv4Addr>, Option<Ipv4Addr>) {
    let bits = address.to_bits();
    let at = |shift: u32| Some(Ipv4Addr::from_bits((bits >> shift) as u32));
    let last = at(0);
    match address.segments() {
        // Neither :: nor ::1 carries anything.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => (None, None),
        // IPv4-compatible (RFC 4291 2.5.5.1), IPv4-mapped (2.5.5.2), IPv4-translated (RFC 2765 2.1).
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => (last, None),
        // NAT64: the well-known prefix (RFC 6052 2.1) and the local one (RFC 8215), in the layout of a /96.
        [0x64, 0xff9b, 0, 0, 0, 0, ..] | [0x64, 0xff9b, 1, ..] => (last, None),
        // 6to4 (RFC 3056 2).
        [0x2002, ..] => (at(80), None),
        // Teredo (RFC 4380 4): the server, and the client with its bits inverted.
        [0x2001, 0, ..] => (at(64), Some(Ipv4Addr::from_bits(!(bits as u32)))),
        // ISATAP (RFC 5214 6.1).
        [_, _, _, _, 0 | 0x200, 0x5efe, ..] => (last, None),
        _ => (None, None),
    }
}

/// A host without the brackets of an IPv6 address.
pub fn plain_host(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(mode: EgressMode, allow: &[&str], deny: &[&str]) -> EgressPolicy {
        let rules = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        EgressPolicy { mode, allow: rules(allow), deny: rules(deny) }
    }

    /// One letter for each of: default mode with the address written in the definition; with a name written there;
    /// with a name out of a template; public-only. `+` allowed, `-` refused.
    fn verdicts(address: &str) -> String {
        let address: IpAddr = address.parse().unwrap();
        let literal = address.to_string();
        let default = policy(EgressMode::Default, &[], &[]);
        let public_only = policy(EgressMode::PublicOnly, &[], &[]);
        let verdict = |result: Result<(), Refusal>| if result.is_ok() { '+' } else { '-' };
        [
            default.decide(address, &literal, true),
            default.decide(address, "hooks.example", true),
            default.decide(address, "hooks.example", false),
            public_only.decide(address, &literal, true),
        ]
        .map(verdict)
        .into_iter()
        .collect()
    }

    #[test]
    fn a_network_of_mapped_addresses_is_one_of_ipv4() {
        let denies = policy(EgressMode::Default, &[], &["::ffff:8.8.0.0/112"]);
        for (address, allowed) in [("8.8.8.8", false), ("::ffff:8.8.1.1", false), ("8.9.8.8", true)] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(denies.decide(address, "hooks.example", true).is_ok(), allowed, "{address}");
        }
        let one = "::ffff:10.0.0.7/128".parse::<EgressRule>().unwrap();
        assert_eq!(one, EgressRule::Address("10.0.0.7".parse().unwrap()));
    }

    #[test]
    fn what_an_address_will_come_to_is_known_before() {
        let default = policy(EgressMode::Default, &[], &[]);
        for (host, literal, refused) in [
            ("127.0.0.1", true, false),
            ("127.0.0.1", false, true),
            ("[::1]", false, true),
            ("localhost", true, false),
            ("LocalHost.", false, true),
            ("169.254.169.254", true, true),
            ("8.8.8.8", false, false),
            // Nobody has looked it up.
            ("hooks.example", false, false),
        ] {
            assert_eq!(default.foretell(host, literal).is_some(), refused, "{host} {literal}");
        }
        assert_eq!(policy(EgressMode::PublicOnly, &["::1"], &[]).foretell("localhost", true), None);
    }

    #[test]
    fn the_table_of_ranges() {
        for (addresses, expected) in [
            // Public, and next to ranges that are not.
            (
                "8.8.8.8 1.0.0.0 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0",
                "++++",
            ),
            ("169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.167.255.255 192.169.0.0", "++++"),
            ("198.17.255.255 198.20.0.0 223.255.255.255 192.0.1.0 203.0.113.9", "++++"),
            ("2606:4700::1 2a00::1 fbff::1 2001:4860:4860::8888 ::8.8.8.8 ::ffff:8.8.8.8", "++++"),
            ("2002:808:808::1 64:ff9b::8.8.8.8 64:ff9b:2::1", "++++"),
            // Private.
            ("10.0.0.0 10.255.255.255 172.16.0.0 172.31.255.255 192.168.0.0 192.168.255.255", "++--"),
            ("100.64.0.0 100.127.255.255 192.0.0.1 198.18.0.0 198.19.255.255", "++--"),
            ("fc00::1 fdff::1 fec0::1 64:ff9b:1::808:808 5f00::1", "++--"),
            // Private inside: mapped, compatible, translated, 6to4, NAT64, ISATAP, Teredo (client, server).
            ("::ffff:10.0.0.1 ::10.0.0.1 ::ffff:0:10.0.0.1 2002:a00:1::1 64:ff9b::10.0.0.1", "++--"),
            ("2a00::5efe:10.0.0.1 2a00::200:5efe:10.0.0.1", "++--"),
            ("2001:0:808:808::f5ff:fffe 2001:0:a00:1::f7f7:f7f7", "++--"),
            // Loopback.
            ("127.0.0.1 127.255.255.255 ::1 ::ffff:127.0.0.1", "+---"),
            ("::127.0.0.1 2002:7f00:1::1 64:ff9b::127.0.0.1", "+---"),
            // Never.
            ("0.0.0.0 0.255.255.255 169.254.0.0 169.254.169.254 169.254.170.2 169.254.255.255", "----"),
            (
                "100.100.100.200 168.63.129.16 192.0.0.192 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255",
                "----",
            ),
            (":: fe80::1 febf::1 ff02::1 100::1 fd00:ec2::254 fd00:ec2::23 fd20:ce::254 fd00:42::42", "----"),
            ("fd00:c1::a9fe:a9fe ::ffff:169.254.169.254 ::ffff:0.0.0.0 ::169.254.169.254 ::2", "----"),
            (
                "2002:a9fe:a9fe::1 64:ff9b::169.254.169.254 64:ff9b:1::a9fe:a9fe 2a00::5efe:169.254.169.254",
                "----",
            ),
            ("2001:0:a9fe:a9fe::f7f7:f7f7 2001:0:808:808::5601:5601", "----"),
        ] {
            for address in addresses.split(' ') {
                assert_eq!(verdicts(address), expected, "{address}");
            }
        }
    }

    #[test]
    fn loopback_by_name_is_localhost_and_nothing_else() {
        let default = EgressPolicy::default();
        let loopback = "127.0.0.1".parse().unwrap();
        for (host, literal_host, allowed) in [
            ("localhost", true, true),
            ("LOCALHOST.", true, true),
            ("127.0.0.1", true, true),
            ("[::1]", true, true),
            ("localhost", false, false),
            ("127.0.0.1", false, false),
            ("127.1", true, false),
            ("localhost.example.org", true, false),
            ("rebound.example.org", true, false),
        ] {
            assert_eq!(
                default.decide(loopback, host, literal_host).is_ok(),
                allowed,
                "{host} {literal_host}"
            );
        }
    }

    #[test]
    fn lists_say_otherwise() {
        use EgressMode::{Default, PublicOnly};
        for (mode, allow, deny, address, host, allowed) in [
            (Default, "10.1.2.3", "", "10.1.2.3", "a.example", true),
            (Default, "10.1.2.3", "", "10.1.2.4", "a.example", false),
            (Default, "10.0.0.0/8", "", "10.1.2.4", "a.example", true),
            (Default, "10.0.0.0/8", "", "::ffff:10.1.2.4", "a.example", true),
            (Default, "10.0.0.0/8", "", "2002:a01:204::1", "a.example", false),
            (Default, "a.example", "", "127.0.0.1", "A.example.", true),
            (Default, "a.example", "", "127.0.0.1", "b.a.example", false),
            (Default, ".example", "", "192.168.0.1", "b.a.Example", true),
            (Default, ".example", "", "192.168.0.1", "example", false),
            (Default, ".example", "", "192.168.0.1", "notexample", false),
            // What the operator allows is allowed in every mode.
            (PublicOnly, "10.0.0.0/8", "", "10.1.2.4", "a.example", true),
            (PublicOnly, "10.0.0.0/8", "", "192.168.0.1", "a.example", false),
            // Only the address itself opens what is otherwise never called.
            (Default, "169.254.169.254", "", "169.254.169.254", "a.example", true),
            (Default, "169.254.169.254/32", "", "::ffff:169.254.169.254", "a.example", true),
            (Default, "169.254.0.0/16", "", "169.254.169.254", "a.example", false),
            (Default, "a.example", "", "169.254.169.254", "a.example", false),
            (Default, "0.0.0.0/0", "", "0.0.0.0", "a.example", false),
            // Deny wins.
            (Default, "8.8.8.8", "8.8.8.8", "8.8.8.8", "a.example", false),
            (Default, "", "8.0.0.0/8", "64:ff9b::808:808", "a.example", false),
            (Default, "", "8.0.0.0/8", "9.0.0.1", "a.example", true),
            (Default, "a.example", ".example", "8.8.8.8", "a.example", false),
            (Default, "", "a.example", "8.8.8.8", "a.example", false),
        ] {
            let lists = [allow, deny].map(|list| if list.is_empty() { vec![] } else { vec![list] });
            let policy = policy(mode, &lists[0], &lists[1]);
            let verdict = policy.decide(address.parse().unwrap(), host, false);
            assert_eq!(verdict.is_ok(), allowed, "{allow:?} {deny:?} {address} {host}: {verdict:?}");
        }
    }

    #[test]
    fn a_refusal_says_what_and_why_and_what_to_do() {
        let refusal = |policy: &EgressPolicy, address: &str, host: &str, literal_host| {
            policy.decide(address.parse().unwrap(), host, literal_host).unwrap_err().to_string()
        };
        let default = EgressPolicy::default();
        let public_only = policy(EgressMode::PublicOnly, &[], &[]);
        let denying = policy(EgressMode::Default, &[], &["203.0.113.0/24", ".example"]);
        let text = [
            refusal(&default, "169.254.169.254", "169.254.169.254", true),
            refusal(&default, "::ffff:169.254.169.254", "[::ffff:169.254.169.254]", true),
            refusal(&default, "127.0.0.1", "rebound.test", true),
            refusal(&default, "10.0.0.7", "10.0.0.7", false),
            refusal(&default, "fd12::7", "hooks.test", false),
            refusal(&default, "64:ff9b::a00:1", "hooks.test", false),
            refusal(&public_only, "192.168.1.1", "hooks.test", true),
            refusal(&denying, "203.0.113.5", "203.0.113.5", true),
            refusal(&denying, "8.8.8.8", "hooks.example", true),
        ]
        .join("\n");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn entries_read_back_as_they_were_written() {
        for text in ["10.0.0.7", "::1", "10.0.0.0/8", "fd00::/8", "hooks.example.org", ".example.org", "a_b"]
        {
            assert_eq!(text.parse::<EgressRule>().unwrap().to_string(), text);
        }
        for (text, meaning) in [
            (" Hooks.Example. ", "hooks.example"),
            ("[::1]", "::1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("10.1.2.3/32", "10.1.2.3"),
        ] {
            assert_eq!(text.parse::<EgressRule>().unwrap().to_string(), meaning);
        }
    }

    #[test]
    fn what_is_no_entry_is_refused() {
        let texts =
            ["", ".", "10.0.0", "10.0.0.0/33", "*.example.org", "https://a.example", "a.example:443", "a b"];
        let messages = texts.map(|text| text.parse::<EgressRule>().unwrap_err().to_string());
        insta::assert_snapshot!(messages.join("\n"));
    }

    proptest::proptest! {
        /// Whatever carries an IPv4 address is refused wherever that address is.
        #[test]
        fn no_embedding_opens_a_closed_address(bits: u32, client: u32) {
            let v4 = Ipv4Addr::from_bits(bits);
            let [high, low] = [(bits >> 16) as u16, bits as u16];
            let default = EgressPolicy::default();
            let closed = default.decide(v4.into(), "a.example", false).is_err();
            for carrier in [
                v4.to_ipv6_mapped(),
                Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 1, 0, 0, 0, 1),
                Ipv6Addr::new(0x2001, 0, high, low, 0, 0, (client >> 16) as u16, client as u16),
                Ipv6Addr::new(0x2001, 0, 0x808, 0x808, 0, 0, !high, !low),
                Ipv6Addr::new(0x2a00, 0, 0, 0, 0, 0x5efe, high, low),
            ] {
                if closed {
                    proptest::prop_assert!(default.decide(carrier.into(), "a.example", false).is_err(), "{carrier}");
                }
            }
        }
    }
}
