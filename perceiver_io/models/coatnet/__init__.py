"""CoAtNet (2106.04803): stages of convolutions, then stages of relative attention."""
