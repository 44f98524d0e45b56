package main

// The code for the API, from the repository's proto/.
//go:generate npx --yes @bufbuild/buf@1.75.0 generate
//go:generate cp ../../proto/threads/identity/v1/service_config.json gen/
