//! The people present from the start, each there for one reason.

use super::people::{Persona, Picture, Role};

/// The people present from the start; the first is the one preselected on the consent page.
pub(super) fn residents() -> Vec<Persona> {
    let maya = Persona {
        note: "A full profile.".to_owned(),
        name: Some("Maya Lindqvist".to_owned()),
        picture: Picture::Signed,
        biography: Some("Ceramics, trains & slow mornings.\nhttps://example.com/maya".to_owned()),
        is_verified: Some(true),
        recently_searched: vec![("glaze recipes".to_owned(), 1_735_707_600_000)],
        ..Persona::new("full", "17841405793187219", "maya.sim")
    };
    let bare = Persona {
        note: "No name, picture or biography.".to_owned(),
        is_verified: None,
        is_eligible_for_geo_gating: None,
        ..Persona::new("bare", "28753684917596557", "bare_sim")
    };
    vec![maya, bare, emoji(), big(), private(), tester(), accepted(), denier()]
        .into_iter()
        .chain(couple())
        .chain([elsewhere(), renamed(), pictured(), without_profile(), hostile()])
        .collect()
}

/// Emoji, a family of joiners, right-to-left text, and a biography of exactly 500 characters.
fn emoji() -> Persona {
    let start = "👩‍👩‍👧‍👦 سلام دنیا ✨ \u{202b}שלום\u{202c} <b>&amp;</b> \"quoted\" ";
    let rest = BIOGRAPHY - start.chars().count();
    Persona {
        note: "Emoji, right-to-left text, 500 characters of biography.".to_owned(),
        name: Some("نورا 🌸 <script>alert(1)</script>".to_owned()),
        picture: Picture::Signed,
        biography: Some(start.chars().chain("🧵é".chars().cycle().take(rest)).collect()),
        ..Persona::new("emoji", "24521613984110255", "nora_sim")
    }
}

const BIOGRAPHY: usize = 500;

fn big() -> Persona {
    Persona {
        note: "An id far beyond 2^53.".to_owned(),
        name: Some("Big Id".to_owned()),
        ..Persona::new("bigid", "98765432109876543", "bigid_sim")
    }
}

fn private() -> Persona {
    Persona {
        note: "A private profile.".to_owned(),
        name: Some("Private Person".to_owned()),
        picture: Picture::Signed,
        private: true,
        ..Persona::new("private", "17841405793187331", "private_sim")
    }
}

fn tester() -> Persona {
    Persona {
        note: "A tester who has not accepted the invitation: consents, then nothing works.".to_owned(),
        name: Some("Invited Tester".to_owned()),
        role: Role::InvitedTester,
        ..Persona::new("tester", "28753684917596673", "tester_sim")
    }
}

fn accepted() -> Persona {
    Persona {
        note: "A tester who has accepted the invitation.".to_owned(),
        name: Some("Accepted Tester".to_owned()),
        role: Role::Tester,
        ..Persona::new("accepted", "28753684917596781", "accepted_sim")
    }
}

fn denier() -> Persona {
    Persona {
        note: "Says no, whatever is clicked.".to_owned(),
        name: Some("Dana Nope".to_owned()),
        always_denies: true,
        ..Persona::new("denier", "24521613984110377", "dana_sim")
    }
}

fn couple() -> [Persona; 2] {
    let one = |key: &str, id: &str, username: &str, name: &str| Persona {
        note: "One of two accounts in the same browser.".to_owned(),
        name: Some(name.to_owned()),
        picture: Picture::Signed,
        ..Persona::new(key, id, username)
    };
    [
        one("home", "17841405793187443", "sam.at.home", "Sam"),
        one("work", "17841405793187557", "sam.at.work", "Sam (work)"),
    ]
}

fn elsewhere() -> Persona {
    Persona {
        note: "For an account that another user has linked already.".to_owned(),
        name: Some("Kim Taken".to_owned()),
        ..Persona::new("elsewhere", "28753684917596889", "kim_sim")
    }
}

fn renamed() -> Persona {
    Persona {
        note: "Changes the handle an hour after consent.".to_owned(),
        name: Some("Robin".to_owned()),
        picture: Picture::Signed,
        renames_to: Some("robin_new".to_owned()),
        ..Persona::new("renamed", "24521613984110499", "robin_old")
    }
}

fn pictured() -> Persona {
    Persona {
        note: "A picture that can be opened, until its address dies.".to_owned(),
        name: Some("Pia Pictured".to_owned()),
        picture: Picture::Hosted,
        ..Persona::new("pictured", "17841405793187667", "pia_sim")
    }
}

fn without_profile() -> Persona {
    Persona {
        note: "On Instagram, but not on Threads: an error page, and no way back.".to_owned(),
        name: Some("Ines Instagram".to_owned()),
        has_no_profile: true,
        ..Persona::new("no_profile", "17841405793187779", "ines_sim")
    }
}

/// What breaks out of an element, an attribute, a script, a style and an address, wherever one of these is
/// written as it is. Nobody on the real platform has such a handle.
fn hostile() -> Persona {
    Persona {
        note: "Name, handle, biography and picture try to break a page.".to_owned(),
        name: Some("</title></textarea><script>alert('name')</script><img src=x onerror=alert(1)>".to_owned()),
        picture: Picture::Url("javascript:alert(document.domain)//https://".to_owned()),
        biography: Some(
            "\"><svg/onload=alert(2)> ' onfocus=alert(3) autofocus x=' `${alert(4)}` </script><script>alert(5)</script> \
             ';alert(6);// */alert(7)/* </style><style>*{background:url(//x.example/8)}</style> <!-- {{9*9}} &lt;b&gt; \u{202e}\u{2028}\r\nSet-Cookie: x=1"
                .to_owned(),
        ),
        ..Persona::new("hostile", "28753684917596997", "\"onmouseover=\"alert(0)\"<b>'/..%2f")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_double_holds_any_of_the_ids() {
        let numbered = (0..1_000).map(Persona::numbered);
        for persona in residents().into_iter().chain(numbered) {
            let exact: u64 = persona.id.parse().unwrap();
            let rounded: f64 = persona.id.parse().unwrap();
            assert_ne!(format!("{rounded:.0}"), persona.id, "{}", persona.key);
            assert_eq!(exact % 2, 1);
        }
    }

    #[test]
    fn the_long_biography_is_as_long_as_allowed() {
        assert_eq!(emoji().biography.unwrap().chars().count(), BIOGRAPHY);
    }
}
