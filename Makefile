# Thin on purpose: the work is in scripts/ and cargo. ARGS goes to the script: make bench ARGS=--quick
.PHONY: measure-evidence torture ssh evidence help demo test check bench instructions conformance evasion fuzz-replay

help:
	@echo "make demo         see it work: throwaway PostgreSQL, gateway, agent, trail"
	@echo "make test         unit, property, integration and end-to-end tests"
	@echo "make torture      crashes and faults at length (ARGS=5000 for so many kills)"
	@echo "make check        format, lints, floors, licences, unused dependencies, spelling"
	@echo "make conformance  the suites of others, direct and through the gateway, compared"
	@echo "make ssh          stock SSH clients through the gateway (make evidence: witnesses, proofs, sealer)"
	@echo "make evasion      what changes something must not pass for a read: 20,000 statements of sqlsmith and more"
	@echo "make measure-evidence  what sealing, verifying and recovering cost on this machine"
	@echo "make bench        speed beside direct, PgBouncer and haproxy (ARGS=--quick for a look)"
	@echo "make instructions what one command costs in instructions and system calls, beside what is kept"
	@echo "make fuzz-replay  every input that fuzzing has kept, and changes of them"

demo test check bench instructions conformance measure-evidence:
	@scripts/$@ $(ARGS)

evasion:
	@tests/evasion/run --long $(ARGS)

ssh evidence:
	@. scripts/env && scripts/setup test && cargo test --workspace --no-run --quiet && \
	TRAILGATE_BIN=$$target_dir/debug/trailgate tests/$@/run $(ARGS)

fuzz-replay:
	@tests/fuzz/replay $(ARGS)

torture:
	@scripts/torture $(ARGS)
