"""Parameters to numbers: protocols, planning benchmarks, probes, reports."""
