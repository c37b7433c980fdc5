//! The methods: by their whole names and no other way, each with what it takes and returns.

/// Everything that can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    ApiVersion,
    SupervisorVersion,
    Identification,
    State,
    Pid,
    ReadLog,
    ClearLog,
    Shutdown,
    Restart,
    ReloadConfig,
    AddGroup,
    RemoveGroup,
    Start,
    StartGroup,
    StartAll,
    Stop,
    StopGroup,
    StopAll,
    Signal,
    SignalGroup,
    SignalAll,
    AllConfigInfo,
    ProcessInfo,
    AllProcessInfo,
    ReadStdout,
    ReadStderr,
    TailStdout,
    TailStderr,
    ClearLogs,
    ClearAllLogs,
    SendStdin,
    SendRemote,
    ListAll,
    Help,
    Signature,
    Multicall,
}

/// A method as `system.methodHelp` and `system.methodSignature` tell of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub(super) name: &'static str,
    pub(super) method: Method,
    /// Type of the result, then those of the parameters.
    pub(super) types: &'static [&'static str],
    /// How many parameters may be left out, from the end.
    pub(super) optional: usize,
    /// Names of the parameters.
    params: &'static [&'static str],
    /// What it does.
    about: &'static str,
}

const fn told(
    name: &'static str,
    method: Method,
    types: &'static [&'static str],
    params: &'static [&'static str],
    about: &'static str,
) -> Told {
    Told { name, method, types, optional: 0, params, about }
}

const fn waits(
    name: &'static str,
    method: Method,
    types: &'static [&'static str],
    params: &'static [&'static str],
    about: &'static str,
) -> Told {
    Told { name, method, types, optional: 1, params, about }
}

use Method as M;

const NAME: &[&str] = &["name"];
const RANGE: &[&str] = &["offset", "length"];
const NAME_RANGE: &[&str] = &["name", "offset", "length"];
const READS: &[&str] = &["string", "string", "int", "int"];
const TAILS: &[&str] = &["array", "string", "int", "int"];

/// Every method, in order of name.
#[rustfmt::skip]
pub(super) const ALL: &[Told] = &[
    told("supervisor.addProcessGroup", M::AddGroup, &["boolean", "string"], NAME, "Puts a group of the configuration as last read in force, and starts what is to be started."),
    told("supervisor.clearAllProcessLogs", M::ClearAllLogs, &["array"], &[], "Empties the log files of all processes."),
    told("supervisor.clearLog", M::ClearLog, &["boolean"], &[], "Empties the agent's log of activity."),
    told("supervisor.clearProcessLog", M::ClearLogs, &["boolean", "string"], NAME, "The same as clearProcessLogs."),
    told("supervisor.clearProcessLogs", M::ClearLogs, &["boolean", "string"], NAME, "Empties the log files of a process."),
    told("supervisor.getAPIVersion", M::ApiVersion, &["string"], &[], "The version of this interface."),
    told("supervisor.getAllConfigInfo", M::AllConfigInfo, &["array"], &[], "Every process of the configuration as last read."),
    told("supervisor.getAllProcessInfo", M::AllProcessInfo, &["array"], &[], "How every process is."),
    told("supervisor.getIdentification", M::Identification, &["string"], &[], "What this supervisor calls itself."),
    told("supervisor.getPID", M::Pid, &["int"], &[], "The agent's process id."),
    told("supervisor.getProcessInfo", M::ProcessInfo, &["struct", "string"], NAME, "How a process is."),
    told("supervisor.getState", M::State, &["struct"], &[], "What the agent is doing: statecode and statename."),
    told("supervisor.getSupervisorVersion", M::SupervisorVersion, &["string"], &[], "The version of Supervisor that this interface is like."),
    told("supervisor.getVersion", M::ApiVersion, &["string"], &[], "The same as getAPIVersion."),
    told("supervisor.readLog", M::ReadLog, &["string", "int", "int"], RANGE, "Bytes of the agent's log of activity: from offset, or the last ones if it is negative."),
    told("supervisor.readMainLog", M::ReadLog, &["string", "int", "int"], RANGE, "The same as readLog."),
    told("supervisor.readProcessLog", M::ReadStdout, READS, NAME_RANGE, "The same as readProcessStdoutLog."),
    told("supervisor.readProcessStderrLog", M::ReadStderr, READS, NAME_RANGE, "Bytes of the log of a process's standard error: from offset, or the last ones if it is negative."),
    told("supervisor.readProcessStdoutLog", M::ReadStdout, READS, NAME_RANGE, "Bytes of the log of a process's standard output: from offset, or the last ones if it is negative."),
    told("supervisor.reloadConfig", M::ReloadConfig, &["array"], &[], "Reads the configuration anew and changes nothing. The groups that are new, changed and gone."),
    told("supervisor.removeProcessGroup", M::RemoveGroup, &["boolean", "string"], NAME, "Takes a group that is stopped out of force."),
    told("supervisor.restart", M::Restart, &["boolean"], &[], "Stops everything, reads the configuration anew and starts everything."),
    told("supervisor.sendProcessStdin", M::SendStdin, &["boolean", "string", "string"], &["name", "chars"], "Sends text to the standard input of a process."),
    told("supervisor.sendRemoteCommEvent", M::SendRemote, &["boolean", "string", "string"], &["type", "data"], "Tells event listeners of something from outside."),
    told("supervisor.shutdown", M::Shutdown, &["boolean"], &[], "Stops everything and ends the agent."),
    told("supervisor.signalAllProcesses", M::SignalAll, &["array", "string"], &["signal"], "Sends a signal, by name or number, to all processes."),
    told("supervisor.signalProcess", M::Signal, &["boolean", "string", "string"], &["name", "signal"], "Sends a signal, by name or number, to a process."),
    told("supervisor.signalProcessGroup", M::SignalGroup, &["array", "string", "string"], &["name", "signal"], "Sends a signal, by name or number, to the processes of a group."),
    waits("supervisor.startAllProcesses", M::StartAll, &["array", "boolean"], &["wait"], "Starts all processes, and waits until each is up or failed if wait."),
    waits("supervisor.startProcess", M::Start, &["boolean", "string", "boolean"], &["name", "wait"], "Starts a process, and waits until it is up or failed if wait."),
    waits("supervisor.startProcessGroup", M::StartGroup, &["array", "string", "boolean"], &["name", "wait"], "Starts the processes of a group, and waits until each is up or failed if wait."),
    waits("supervisor.stopAllProcesses", M::StopAll, &["array", "boolean"], &["wait"], "Stops all processes, and waits until they are gone if wait."),
    waits("supervisor.stopProcess", M::Stop, &["boolean", "string", "boolean"], &["name", "wait"], "Stops a process, and waits until it is gone if wait."),
    waits("supervisor.stopProcessGroup", M::StopGroup, &["array", "string", "boolean"], &["name", "wait"], "Stops the processes of a group, and waits until they are gone if wait."),
    told("supervisor.tailProcessLog", M::TailStdout, TAILS, NAME_RANGE, "The same as tailProcessStdoutLog."),
    told("supervisor.tailProcessStderrLog", M::TailStderr, TAILS, NAME_RANGE, "The end of the log of a process's standard error: the bytes, where they end, and whether more came than was asked for."),
    told("supervisor.tailProcessStdoutLog", M::TailStdout, TAILS, NAME_RANGE, "The end of the log of a process's standard output: the bytes, where they end, and whether more came than was asked for."),
    told("system.listMethods", M::ListAll, &["array"], &[], "The names of all methods."),
    told("system.methodHelp", M::Help, &["string", "string"], NAME, "What a method does."),
    told("system.methodSignature", M::Signature, &["array", "string"], NAME, "The type of a method's result, and those of its parameters."),
    told("system.multicall", M::Multicall, &["array", "array"], &["calls"], "Calls several methods one after the other: structs of methodName and params."),
];

/// A method by its whole name.
pub(super) fn find(name: &str) -> Option<&'static Told> {
    ALL.iter().find(|t| t.name == name)
}

impl Told {
    /// What it does, with a tag for each parameter and for the result as Supervisor's tools read them.
    pub(super) fn help(&self) -> String {
        let (result, takes) = self.types.split_first().unwrap_or((&"", &[]));
        let params = takes.iter().zip(self.params).map(|(t, n)| format!("@param {t} {n}\n"));
        format!("{}\n\n{}@return {result} result\n", self.about, params.collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_names_each_parameter() {
        assert!(ALL.windows(2).all(|w| w[0].name < w[1].name));
        for t in ALL {
            assert_eq!(t.types.len(), t.params.len() + 1, "{}", t.name);
            assert!(t.optional <= t.params.len(), "{}", t.name);
        }
        assert_eq!(ALL.iter().filter(|t| t.name.starts_with("supervisor.")).count(), 37);
    }

    #[test]
    fn only_whole_names_are_methods() {
        assert_eq!(find("supervisor.getPID").map(|t| t.method), Some(M::Pid));
        for no in
            ["getPID", "supervisor", "supervisor.", "supervisor.getPID.x", "a.supervisor.getPID"]
        {
            assert!(find(no).is_none(), "{no}");
        }
    }

    #[test]
    fn help_tells_the_parameters_and_the_result() {
        let help = find("supervisor.startProcess").unwrap().help();
        assert!(
            help.contains("@param string name\n@param boolean wait\n@return boolean result"),
            "{help}"
        );
    }
}
