//! `simulate`.

use crate::run::{Running, command, run};

#[tokio::test]
async fn it_says_where_it_is_and_what_to_configure() {
    let usual = ["simulate", "--listen", "127.0.0.1:0", "--redirect-uri", "https://a.example/cb"];
    let callbacks =
        ["--deauthorize-url", "https://a.example/gone", "--data-deletion-url", "https://a.example/rid"];
    let mut simulate = command([usual.as_slice(), &callbacks].concat());
    let mut running = Running::start(&mut simulate);
    let out = running.printed("/_simulator/");
    let base = out.lines().next().unwrap().rsplit(' ').next().unwrap().to_owned();
    assert!(out.contains(&format!("authorize_url = \"{base}/oauth/authorize\"")), "{out}");
    assert!(out.contains(&format!("graph_url = \"{base}\"")), "{out}");
    let page = reqwest::get(format!(
        "{base}/oauth/authorize?client_id=990602627938098&response_type=code&scope=threads_basic\
         &redirect_uri=https%3A%2F%2Fa.example%2Fcb&state=s"
    ));
    let page = page.await.unwrap();
    assert_eq!(page.status(), 200);
    assert!(page.text().await.unwrap().contains("Allow"));
    assert_eq!(reqwest::get(format!("{base}/_simulator/")).await.unwrap().status(), 200);

    let apps = reqwest::get(format!("{base}/_simulator/apps")).await.unwrap().text().await.unwrap();
    assert!(apps.contains("https://a.example/gone") && apps.contains("https://a.example/rid"), "{apps}");
    let elsewhere = ["--deauthorize-url", "http://a.example/gone"];
    let refused = run(&[usual.as_slice(), &elsewhere].concat()).bad();
    assert!(refused.contains("deauthorize_url must be an absolute https URL"), "{refused}");

    let nowhere = run(&["simulate", "--listen", "127.0.0.1:0", "--redirect-uri", "foo"]).bad();
    assert!(nowhere.contains("--redirect-uri"), "{nowhere}");
    let address = base.strip_prefix("http://").unwrap();
    let second = run(&["simulate", "--listen", address, "--redirect-uri", "https://a.example/cb"]).bad();
    assert!(second.contains(address) && second.contains("in use"), "{second}");

    running.signal("-INT");
    assert_eq!(running.wait().code(), Some(0));
}
