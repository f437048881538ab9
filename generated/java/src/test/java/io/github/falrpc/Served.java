package io.github.falrpc;

import io.github.falrpc.v1.FalServiceGrpc;
import io.grpc.BindableService;
import io.grpc.InsecureServerCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import java.util.logging.Level;
import java.util.logging.Logger;

/** A server on loopback that notes each call, and a stub with the helper's defaults. */
final class Served implements AutoCloseable {
  private static final Logger GRPC_LOG = Logger.getLogger("io.grpc");

  static {
    GRPC_LOG.setLevel(Level.SEVERE); // calls that are cancelled are no news
  }

  /** The calls that came: their methods' names. */
  final List<String> calls = new CopyOnWriteArrayList<>();

  /** The calls' headers. */
  final List<Metadata> headers = new CopyOnWriteArrayList<>();

  final FalServiceGrpc.FalServiceBlockingStub stub;

  final int port;

  private final Server server;
  private final ManagedChannel channel;

  Served(BindableService service) throws IOException {
    server =
        NettyServerBuilder.forAddress(new InetSocketAddress("127.0.0.1", 0), InsecureServerCredentials.create())
            .maxInboundMessageSize(128 << 20)
            .intercept(new Noting())
            .addService(service)
            .build()
            .start();
    port = server.getPort();
    channel = Falrpc.channel("127.0.0.1:" + port).build();
    stub = FalServiceGrpc.newBlockingStub(channel).withDeadlineAfter(60, TimeUnit.SECONDS);
  }

  @Override
  public void close() throws InterruptedException {
    channel.shutdownNow().awaitTermination(60, TimeUnit.SECONDS);
    server.shutdownNow().awaitTermination(60, TimeUnit.SECONDS);
  }

  private final class Noting implements ServerInterceptor {
    @Override
    public <A, B> ServerCall.Listener<A> interceptCall(
        ServerCall<A, B> call, Metadata received, ServerCallHandler<A, B> next) {
      calls.add(call.getMethodDescriptor().getBareMethodName());
      headers.add(received);
      return next.startCall(call, received);
    }
  }
}
