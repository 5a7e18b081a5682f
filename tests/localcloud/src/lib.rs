//! The cloud on one machine: the real functions, template and state machines, without an AWS account.
//!
//! [`Cloud::start`] is the way in. Around the AWS control plane (a moto server) stand the parts that it lacks: S3 over a
//! plain folder, a faithful Lambda host, the evaluation of rules, schedules and alarms, and of who may do what.

mod alarms;
mod aws;
pub mod bound_child;
mod child;
mod cloud;
mod cron;
pub mod cutting_proxy;
mod deploy;
pub mod every_kind;
mod executions;
mod gateway;
mod iam;
mod identities;
mod inbox;
mod lambda_host;
mod layer;
mod metrics;
mod moto;
pub mod neon;
pub mod pgbouncer;
pub mod postgres;
mod rules;
pub mod sample;
mod schedules;
mod template;
pub mod workspace;

pub use alarms::{AlarmState, Evaluated};
pub use aws::{AwsError, Credentials, Reply};
pub use cloud::{Cloud, CloudError, Options, S3Backend, client_environment};
pub use deploy::{DeployError, Override, TranslateError};
pub use executions::Execution;
pub use gateway::{Fault, FaultAction, Faults};
pub use inbox::Message;
pub use lambda_host::{FunctionSpec, Invoked, LogLine, PeakRss};
pub use layer::{Database, Target, merge_client_tools};
pub use metrics::{Datapoint, Metrics};
pub use moto::MotoError;
pub use schedules::Due;
pub use template::TemplateError;
