# Thin on purpose: the work is in scripts/ and cargo. ARGS goes to the script: make bench ARGS=--quick
.PHONY: help demo test check bench conformance fuzz-replay

help:
	@echo "make demo         see it work: throwaway PostgreSQL, gateway, agent, trail"
	@echo "make test         unit, property, integration and end-to-end tests"
	@echo "make check        format, lints, floors, licences, unused dependencies, spelling"
	@echo "make conformance  the suites of others, direct and through the gateway, compared"
	@echo "make bench        speed beside direct, PgBouncer and haproxy (ARGS=--quick for a look)"
	@echo "make fuzz-replay  every input that fuzzing has kept, and changes of them"

demo test check bench conformance:
	@scripts/$@ $(ARGS)

fuzz-replay:
	@tests/fuzz/replay $(ARGS)
