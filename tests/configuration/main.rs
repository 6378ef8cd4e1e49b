//! The configuration from outside: a corpus of wrong ones with every message in full, the shipped files, the reference card's
//! snippets as printed, the environment, origins and secrets.

mod card;
#[path = "../support/checkout.rs"]
mod checkout;
mod environment;
mod files;
mod loading;
mod secrets;
mod settings;
mod wrong;
