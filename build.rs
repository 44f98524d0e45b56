//! Compiles `proto/` with protox (so that no `protoc` is needed) and generates
//! the messages, clients and servers.

use std::path::PathBuf;

const PUBLIC: [&str; 6] = [
    "threads/identity/v1/resources.proto",
    "threads/identity/v1/error_reason.proto",
    "threads/identity/v1/authorization_service.proto",
    "threads/identity/v1/account_service.proto",
    "threads/identity/v1/profile_service.proto",
    "threads/identity/v1/access_token_service.proto",
];
const PRIVATE: &str = "threads/identity/internal/v1/sealed.proto";

/// Messages that hold secrets get no derived `Debug`; `src/proto.rs` writes one
/// that tells only their name.
const SECRET: [&str; 11] = [
    ".threads.identity.v1.CreateAuthorizationUrlRequest.Link",
    ".threads.identity.v1.CreateAuthorizationUrlRequest.SignIn",
    ".threads.identity.v1.CreateAuthorizationUrlResponse",
    ".threads.identity.v1.CompleteAuthorizationRequest",
    ".threads.identity.v1.CompleteAuthorizationRequest.answer",
    ".threads.identity.v1.CompleteAuthorizationRequest.Parameters",
    ".threads.identity.v1.CompleteAuthorizationRequest.Parameters.result",
    ".threads.identity.v1.FetchAccessTokenResponse",
    ".threads.identity.internal.v1.State",
    ".threads.identity.internal.v1.ShortLivedToken",
    ".threads.identity.internal.v1.PageToken",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=migrations");

    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let files = protox::compile(PUBLIC, ["proto"])?;
    // What reflection shows is the public package alone, with its comments.
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_files(PUBLIC)?;
    std::fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;

    tonic_prost_build::configure().skip_debug(SECRET).compile_fds(files)?;
    tonic_prost_build::configure()
        .build_client(false)
        .build_server(false)
        .skip_debug(SECRET)
        .compile_fds(protox::compile([PRIVATE], ["proto"])?)?;
    Ok(())
}
