use super::*;

fn headers(name: HeaderName, value: &str) -> HeaderMap {
    HeaderMap::from_iter([(name, value.parse().unwrap())])
}

#[tokio::test]
async fn a_handler_that_panics_fails_its_own_call() {
    let deadline = Deadline(Instant::now() + std::time::Duration::from_secs(60));
    let panics = async { panic!("canary") };
    let answer: Result<_, std::convert::Infallible> =
        REQUEST_ID.scope("mine".to_owned(), run(panics, deadline)).await;
    let answer = answer.unwrap();
    let status = Status::from_header_map(answer.headers()).unwrap();
    assert_eq!(status.code(), Code::Internal);
    assert_eq!(reason_of(answer.headers()), Some("INTERNAL"));
    assert!(!format!("{status:?}").contains("canary"), "{status:?}");
}

#[test]
fn only_a_decent_request_id_is_taken_over() {
    let id = |text: &str| request_id(&headers(REQUEST_ID_HEADER, text));
    assert_eq!(id("abc-1_2.3"), "abc-1_2.3");
    for bad in ["", "a b", "a\"b", &"x".repeat(65)] {
        assert_ne!(id(bad), bad);
        assert_eq!(id(bad).len(), 32);
    }
}

#[test]
fn the_methods_are_those_of_the_descriptors() {
    use prost::Message as _;
    let set = prost_types::FileDescriptorSet::decode(crate::proto::DESCRIPTORS).unwrap();
    let mut known: Vec<String> = Vec::new();
    for file in set.file.iter().filter(|file| file.package() == status::DOMAIN) {
        for service in &file.service {
            let path = |method: &prost_types::MethodDescriptorProto| {
                format!("/{}.{}/{}", file.package(), service.name(), method.name())
            };
            known.extend(service.method.iter().map(path));
        }
    }
    known.sort();
    let mut listed = METHODS.map(str::to_owned).to_vec();
    listed.sort();
    assert_eq!(known, listed);
}
