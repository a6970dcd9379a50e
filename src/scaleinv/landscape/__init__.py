"""What needs the network again: curvature, paths between weights, averages, walks, agreement."""
