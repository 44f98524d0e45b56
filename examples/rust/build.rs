//! Generates the client from the repository's `proto/`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    const PROTO: &str = "../../proto";
    println!("cargo:rerun-if-changed={PROTO}");
    let services = ["authorization", "account", "profile", "access_token"];
    let files = services.map(|name| format!("threads/identity/v1/{name}_service.proto"));
    let compiled = protox::compile(files, [PROTO])?;
    tonic_prost_build::configure()
        .build_server(false)
        // What holds a token is not to be printed.
        .skip_debug([".threads.identity.v1.FetchAccessTokenResponse"])
        .compile_fds(compiled)?;
    Ok(())
}
