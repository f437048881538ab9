package io.github.falrpc;

import io.grpc.EquivalentAddressGroup;
import io.grpc.NameResolver;
import io.grpc.NameResolverProvider;
import io.grpc.StatusOr;
import java.net.InetSocketAddress;
import java.net.SocketAddress;
import java.net.URI;
import java.util.Collection;
import java.util.Map;
import java.util.Set;
import java.util.stream.IntStream;

/** Gives every name of a scheme the same addresses on loopback, and a service config. */
final class Addresses extends NameResolverProvider {
  private final String scheme;
  private final Map<String, ?> serviceConfig;
  private final int[] ports;

  Addresses(String scheme, Map<String, ?> serviceConfig, int... ports) {
    this.scheme = scheme;
    this.serviceConfig = serviceConfig;
    this.ports = ports;
  }

  @Override
  public NameResolver newNameResolver(URI target, NameResolver.Args arguments) {
    return new NameResolver() {
      @Override
      public void start(Listener2 listener) {
        var groups = IntStream.of(ports)
            .mapToObj(port -> new EquivalentAddressGroup(new InetSocketAddress("127.0.0.1", port)))
            .toList();
        listener.onResult(ResolutionResult.newBuilder()
            .setAddressesOrError(StatusOr.fromValue(groups))
            .setServiceConfig(arguments.getServiceConfigParser().parseServiceConfig(serviceConfig))
            .build());
      }

      @Override
      public String getServiceAuthority() {
        return "falrpc";
      }

      @Override
      public void shutdown() {}
    };
  }

  @Override
  public Collection<Class<? extends SocketAddress>> getProducedSocketAddressTypes() {
    return Set.of(InetSocketAddress.class);
  }

  @Override
  public String getDefaultScheme() {
    return scheme;
  }

  @Override
  protected boolean isAvailable() {
    return true;
  }

  @Override
  protected int priority() {
    return 5;
  }
}
