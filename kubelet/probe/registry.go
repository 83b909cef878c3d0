package probe

// probers lists all kinds of probes; the first that matches is asked.
func probers(config Config) []Prober {
	return []Prober{
		&execProber{runtime: config.Runtime},
		newHTTPProber(),
		&tcpProber{},
		&grpcProber{},
	}
}
